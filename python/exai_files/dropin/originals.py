"""Where the tool's own files are while ours stand in for them: beside them, or on a branch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from exai_files.dropin.swaps import beside
from exai_files.errors import ConflictError, InvalidRequestError

__all__ = ["BRANCH", "SUFFIX", "Kept", "commit", "drop", "read"]

Kept = Literal["copies", "branch"]

SUFFIX = ".orig"
BRANCH = "exai-files-dropin-originals"


def read(root: Path, paths: Iterable[str], commit: str | None) -> dict[str, bytes]:
    """The originals of files, from a commit or from beside them; without those that are gone."""
    if commit is not None:
        return _blobs(root, list(paths), commit)
    copies = {path: beside(root / path, SUFFIX) for path in paths}
    return {path: copy.read_bytes() for path, copy in copies.items() if copy.is_file() and not copy.is_symlink()}


def commit(root: Path, files: Mapping[str, bytes], modes: Mapping[str, int], parent: str | None) -> str:
    """Puts files on the branch, byte for byte and without a change to HEAD, index or work tree; the commit.

    Where `parent` is None there is to be no such branch yet.

    Raises:
        InvalidRequestError: There is no git, no work tree, or no commit in it.
        ConflictError: There is such a branch, and it is not ours.
    """
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    if parent is None and _git(root, "branch", "--list", BRANCH):
        raise ConflictError(f'there is a branch "{BRANCH}" already; delete it, or keep the originals as copies')
    start = parent or _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
    message = b"The modules that exai-files stands in for"
    stream = f"commit refs/heads/{BRANCH}\ncommitter exai-files <> {int(time.time())} +0000\n".encode()
    stream += _data(message) + f"from {start}\n".encode()
    for path, content in files.items():
        mode = "100755" if modes[path] & 0o100 else "100644"
        stream += f"M {mode} inline {prefix}{path}\n".encode() + _data(content)
    _git(root, "fast-import", "--quiet", given=stream)
    return _git(root, "rev-parse", f"refs/heads/{BRANCH}").decode().strip()


def drop(root: Path, commit: str, parent: str | None = None) -> None:
    """Takes the branch back to what it was, or deletes it; unless somebody has moved it since."""
    back = ["-d", f"refs/heads/{BRANCH}"] if parent is None else [f"refs/heads/{BRANCH}", parent]
    with contextlib.suppress(InvalidRequestError):
        _git(root, "update-ref", *back, commit)


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def _blobs(root: Path, paths: list[str], commit: str) -> dict[str, bytes]:
    """Many in one process: each answer is a line that ends with the size, and then the content."""
    prefix = _git(root, "rev-parse", "--show-prefix").decode().strip()
    asked = "".join(f"{commit}:{prefix}{path}\n" for path in paths)
    rest = _git(root, "cat-file", "--batch", given=asked.encode())
    found = {}
    for path in paths:
        line, _, rest = rest.partition(b"\n")
        if line.endswith(b" missing"):
            continue
        size = int(line.rpartition(b" ")[2])
        found[path], rest = rest[:size], rest[size + 1 :]
    return found


def _git(root: Path, *command: str, given: bytes = b"") -> bytes:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *command], input=given, capture_output=True, check=True, env=environment
        )
    except FileNotFoundError as error:
        raise InvalidRequestError("there is no git here; keep the originals as copies") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"it ended with {error.returncode}"
        raise InvalidRequestError(f'git {command[0]} failed in "{root}": {why}') from error
    return done.stdout
