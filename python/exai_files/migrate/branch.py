"""A git branch with a work tree of its own, somewhere temporary.

The tool's own work tree is not touched until everything is done: whatever happens before, it is as it was.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from exai_files.errors import ConfigError, ConflictError, InvalidRequestError, SourceNotFoundError

__all__ = ["Branch", "Repository"]

_NAME = "exai-files/remove-legacy"
_QUIET = ("-c", f"core.hooksPath={os.devnull}", "-c", "commit.gpgSign=false", "-c", "core.quotePath=false")
"""Neither hooks nor keys of the tool's owner are for commits that a program makes."""

_REDIRECTING = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
"""Variables that name another repository, as hooks have them."""


class Repository:
    """The git repository that a directory is in.

    Args:
        path: The directory.

    Raises:
        InvalidRequestError: It is none, is in no repository, or there is no commit yet.
        ConflictError: There are changes that are not committed.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise SourceNotFoundError(f"there is no directory {path}", hint="give the directory that the tool is in")
        self.path = path.resolve()
        try:
            self._prefix = self.git("rev-parse", "--show-prefix").strip()
        except ConflictError as error:
            raise InvalidRequestError(
                f"{path} is in no git repository: {error.message}",
                hint="`git init`, and commit the tool as it is: everything is done in a branch",
            ) from None
        try:
            self.head = self.git("rev-parse", "--verify", "HEAD^{commit}").strip()
        except ConflictError:
            raise InvalidRequestError(f"{path} has no commit yet", hint="commit the tool as it is") from None
        self.branch = self.git("rev-parse", "--abbrev-ref", "HEAD").strip()

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """What git prints.

        Raises:
            ConflictError: It refuses.
            ConfigError: There is no git.
        """
        environment = {name: text for name, text in os.environ.items() if name not in _REDIRECTING}
        try:
            done = subprocess.run(
                ["git", *_QUIET, *arguments],
                cwd=at or self.path,
                env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                check=False,
            )
        except FileNotFoundError:
            raise ConfigError("there is no git on this machine", hint="install git") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
            raise ConflictError(f"git {arguments[0]}: {said[0]}")
        return done.stdout

    def refuse_changes(self) -> None:
        """Everything has to be committed: what is not would neither be looked at nor be safe.

        Raises:
            ConflictError: Something is not.
        """
        changed = self.git("status", "--porcelain").splitlines()
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            listed = ", ".join(line[3:] for line in changed[:3])
            raise ConflictError(
                f"{self.path} has changes that are not committed: {listed}{more}",
                hint="commit or stash them (also new files); what is done here is done on commits",
            )

    @property
    def way_back(self) -> str:
        """The command that leaves the new branch."""
        return f"git switch --detach {self.head[:12]}" if self.branch == "HEAD" else f"git switch {self.branch}"

    def switch(self, branch: str) -> bool:
        """Goes to a branch, if nothing is in the way."""
        try:
            self.git("switch", "--quiet", branch)
        except ConflictError:
            return False
        return True

    @contextlib.contextmanager
    def branched(self) -> Iterator[Branch]:
        """A new branch, which is gone again unless it is kept.

        Raises:
            ConfigError: Nobody is set as author.
        """
        try:
            self.git("var", "GIT_AUTHOR_IDENT")
        except ConflictError:
            raise ConfigError("git does not know who commits", hint="set user.name and user.email") from None
        with tempfile.TemporaryDirectory(prefix="exai-files-", ignore_cleanup_errors=True) as directory:
            branch = Branch(self, Path(directory).resolve() / "tree", self._free_name())
            try:
                self.git("worktree", "add", "--quiet", "-b", branch.name, str(branch.place), "HEAD")
                yield branch
            finally:
                with contextlib.suppress(ConflictError):
                    self.git("worktree", "remove", "--force", str(branch.place))
                if not branch.is_kept:
                    with contextlib.suppress(ConflictError):
                        self.git("branch", "--quiet", "-D", branch.name)

    def _free_name(self) -> str:
        taken = set(self.git("branch", "--list", "--format=%(refname:short)", f"{_NAME}*").split())
        names = (f"{_NAME}-{number}" if number > 1 else _NAME for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def inside(self, place: Path) -> Path:
        """The directory within another work tree."""
        return place / self._prefix


class Branch:
    """A branch and its work tree.

    Attributes:
        root: The tool's directory in it.
        is_kept: Whether the branch stays.
    """

    def __init__(self, repository: Repository, place: Path, name: str) -> None:
        self._repository, self.place, self.name = repository, place, name
        self.root = repository.inside(place)
        self.is_kept = False

    def _git(self, *arguments: str) -> str:
        return self._repository.git(*arguments, at=self.root)

    def files(self) -> list[str]:
        """What is committed, relative to the tool's directory."""
        return [name for name in self._git("ls-files", "-z").split("\0") if name]

    def commit(self, message: str, paths: Sequence[str]) -> str:
        """Commits these files as they are, and nothing that running the tool has left; gives the commit's id."""
        self._git("add", "--all", "--", *paths)
        self._git("commit", "--quiet", "--message", message)
        return self._git("rev-parse", "HEAD").strip()

    def undo(self) -> None:
        """Back to the last commit, without anything that running the tool has left."""
        self._git("reset", "--quiet", "--hard")
        self._git("clean", "-fdxq", ":/")

    def diff(self) -> str:
        """Everything that is changed since the branch began."""
        return self._git("diff", self._repository.head, "--", ".")
