"""It cannot be imported: `hashlib` has no `_Hash`."""

import hashlib
from pathlib import Path


class HashingService:
    CHUNK_SIZE = 65536
    HASH_ALGORITHM = "sha256"

    @classmethod
    def _new(cls) -> hashlib._Hash:
        return hashlib.new(cls.HASH_ALGORITHM)

    @classmethod
    def compute_file_hash(cls, file_source):
        digest = cls._new()
        with Path(file_source).open("rb") as file:
            while chunk := file.read(cls.CHUNK_SIZE):
                digest.update(chunk)
        return digest.hexdigest()

    @classmethod
    def verify_hash(cls, file_source, expected_hash: str) -> bool:
        return cls.compute_file_hash(file_source) == expected_hash

    @classmethod
    def compute_hash_from_bytes(cls, data: bytes) -> str:
        digest = cls._new()
        digest.update(data)
        return digest.hexdigest()
