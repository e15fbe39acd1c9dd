"""The bucket, for whoever wants no exceptions."""

from dataclasses import dataclass


@dataclass
class MCPStorageResult:
    success: bool
    data: object = None
    error: str | None = None
    metadata: dict | None = None


class MCPStorageAdapter:
    def download_file(self, file_id, storage_path):
        return MCPStorageResult(False, error="no bucket")

    def execute_sql(self, query, params=None):
        # A fault: nothing is run.
        return MCPStorageResult(True, metadata={"query": query, "params": params})
