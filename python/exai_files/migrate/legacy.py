"""Removes modules that nothing needs any more, and shows that nothing broke.

    report = remove_legacy("path/to/tool", ["config/file_handling.py"], moves={"config/timeouts.py": "config/operations.py"})

Small batches in a branch of git: names are moved first where that is asked for, re-exports that nobody uses go with their
module, every module that imported before has to import again, and a batch after which one does not is undone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exai_files.errors import InvalidRequestError, SourceNotFoundError
from exai_files.migrate.branch import Branch, Repository
from exai_files.migrate.removal import LegacyFile, Removal
from exai_files.migrate.verification import Interpreter

__all__ = ["LegacyFile", "LegacyReport", "remove_legacy"]


@dataclass(frozen=True)
class LegacyReport:
    """What became of all of them.

    Attributes:
        branch: Where the commits are, or None where there are none.
        is_switched: Whether the tool's work tree is on it now.
        way_back: The command that leaves the branch.
        commits: Their ids, one for each batch.
        diff: All changes; only of a dry run.
        imported: Modules that import, as they did before.
        failing: Modules that did not import before either, and why.
        scripts: Files that were not imported, since they would have done their work.
        unreadable: Files that cannot be parsed, and why.
    """

    path: Path
    dry_run: bool
    files: tuple[LegacyFile, ...]
    branch: str | None
    is_switched: bool
    way_back: str
    commits: tuple[str, ...]
    diff: str | None
    imported: int
    failing: Mapping[str, str]
    scripts: tuple[str, ...]
    unreadable: Mapping[str, str]
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether every file is gone, or would be."""
        return all(file.outcome == "removed" for file in self.files)


def remove_legacy(
    path: str | os.PathLike[str],
    files: Iterable[str] = (),
    *,
    moves: Mapping[str, str] | None = None,
    accepted: Collection[str] = (),
    batch_size: int = 5,
    python: str | None = None,
    timeout: float = 60.0,
    jobs: int | None = None,
    dry_run: bool = False,
) -> LegacyReport:
    """Remove modules of a tool that nothing needs, in a new branch of its repository.

    Modules of the tool are imported to see that they still can be, which runs their code: without your variables, each in
    a process of its own, in a copy of what is committed. A dry run imports only what `moves` compares.

    Args:
        path: The tool's directory, which is on its `sys.path`.
        files: Modules to remove, relative to it.
        moves: Modules to remove after what packages pass on of them has moved, and where to.
        accepted: Names, when moving, whose definition in the module that stays counts although it differs.
        batch_size: Files for each commit; those that need each other stay together.
        python: The tool's interpreter. Default: this one.
        timeout: For the import of one module, in seconds.
        jobs: Imports at a time. Default: as many as there are processors.
        dry_run: Keep nothing; the report has the diff.

    Raises:
        InvalidRequestError: A file is not there, lies outside, or is no module; the directory is in no repository.
        ConflictError: There are changes that are not committed.
        ConfigError: There is no git, or it does not know who commits.
    """
    if batch_size < 1:
        raise InvalidRequestError(f"a batch of {batch_size} files is not possible", hint="give a number from 1")
    began = time.monotonic()
    repository = Repository(Path(path))
    requests = _requests(repository.path, files, moves or {})
    repository.refuse_changes()
    with repository.branched() as branch:
        _check_tracked(branch, requests)
        interpreter = Interpreter(python or sys.executable, branch.root, repository.path, timeout=timeout, jobs=jobs)
        removal = Removal(branch, interpreter, requests, accepted, is_dry=dry_run)
        removal.run(batch_size)
        diff = branch.diff() if dry_run else None
        branch.is_kept = bool(removal.commits) and not dry_run
    return LegacyReport(
        path=repository.path,
        dry_run=dry_run,
        files=tuple(removal.outcomes[file] for file in requests),
        branch=branch.name if branch.is_kept else None,
        is_switched=branch.is_kept and repository.switch(branch.name),
        way_back=repository.way_back,
        commits=tuple(removal.commits) if branch.is_kept else (),
        diff=diff,
        imported=removal.imported,
        failing=removal.failing,
        scripts=tuple(removal.scripts),
        unreadable=removal.unreadable,
        seconds=round(time.monotonic() - began, 3),
    )


# ===== what is asked for =====


def _requests(root: Path, files: Iterable[str], moves: Mapping[str, str]) -> dict[str, str | None]:
    """The files, and where each moves to."""
    targets = {_inside(root, old): _inside(root, new) for old, new in moves.items()}
    requests: dict[str, str | None] = {_inside(root, file): None for file in files} | targets
    if not requests:
        raise InvalidRequestError("there is nothing to remove", hint="name files with --remove or --move")
    for target in targets.values():
        if target in requests:
            raise InvalidRequestError(f"{target} cannot go and get names", hint="move them to a module that stays")
    return requests


def _inside(root: Path, file: str) -> str:
    """A Python file below the root, as git names it."""
    place = Path(os.path.normpath(root / file))
    if not place.is_relative_to(root):
        raise InvalidRequestError(f"{file} is not in {root}", hint="give paths relative to the tool's directory")
    if not place.exists():
        raise SourceNotFoundError(f"there is no {file} in {root}", hint="give paths relative to the tool's directory")
    if place.suffix != ".py" or not place.is_file():
        raise InvalidRequestError(f"{file} is no Python file", hint="name modules, one by one")
    return place.relative_to(root).as_posix()


def _check_tracked(branch: Branch, requests: Mapping[str, str | None]) -> None:
    tracked = set(branch.files())
    for file in [*requests, *filter(None, requests.values())]:
        if file not in tracked:
            raise InvalidRequestError(f"{file} is not in git", hint="commit it, or delete it yourself")
