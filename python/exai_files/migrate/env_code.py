"""Everything in a tree of code that reads keys: Python, and scripts, compose files and the like by the names in them."""

from __future__ import annotations

import ast
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from exai_files.errors import SourceNotFoundError
from exai_files.migrate.env_module import Module, Program
from exai_files.migrate.env_reads import Unfollowed, python_reads

__all__ = ["Code", "Read", "scan"]

_PYTHON = {".py", ".pyw"}
_SCRIPTS = {
    *(".sh", ".bash", ".zsh", ".ps1", ".psm1", ".bat", ".cmd", ".mk", ".service", ".conf", ".cfg", ".ini", ".toml"),
    *(".yml", ".yaml", ".json", ".ipynb", ".js", ".mjs", ".cjs", ".ts", ".tf"),
}
_NAMES = re.compile(r"(?:.*\.)?(?:Dockerfile|Containerfile|Makefile|Justfile|Procfile)(?:\..*)?", re.IGNORECASE)
_PASSED_OVER = {".git", ".hg", ".svn", "node_modules", "__pycache__", "site-packages", ".tox", ".nox"}
_COMMENT = re.compile(r"\s*(?:#|//|::|REM\s)", re.IGNORECASE)
_MENTION = re.compile(r"\$\{(?P<name>\w+)(?P<how>:?-)(?P<default>[^}$]*)\}|[A-Za-z_]\w*")
OURS = "exai_files/"
"""What the names of exai-files' own modules begin with; for them it is enough that a text in them names a key."""

_LARGEST = 4 << 20


class Read(Protocol):
    """One place that reads one key."""

    @property
    def key(self) -> str: ...

    @property
    def place(self) -> str:
        """File and line."""

    def outcomes(self, *environments: Mapping[str, str]) -> list[object]:
        """What is had there in each environment."""


@dataclass(frozen=True)
class _Mention:
    """A key by its name. `how` is `-` or `:-` where a default is given."""

    place: str
    key: str
    how: str = ""
    default: str | None = field(default=None, repr=False)

    def outcomes(self, *environments: Mapping[str, str]) -> list[object]:
        return [self._outcome(each) for each in environments]

    def _outcome(self, environment: Mapping[str, str]) -> str | None:
        value = environment.get(self.key, self.default)
        return self.default if self.how == ":-" and not value else value


@dataclass(frozen=True)
class Code:
    """What was found.

    Attributes:
        reads: By key; only of keys that were asked about.
        warnings: What could not be read or followed, with file and line.
    """

    reads: Mapping[str, Sequence[Read]]
    warnings: tuple[str, ...]

    def readers(self, key: str) -> Sequence[Read]:
        return self.reads.get(key, ())

    def tool_readers(self, key: str) -> Sequence[Read]:
        """Without those of exai-files itself."""
        return [each for each in self.readers(key) if not each.place.startswith(OURS)]


def scan(roots: Iterable[tuple[Path, str]], keys: Collection[str], without: Collection[Path] = ()) -> Code:
    """Looks through files and trees.

    Args:
        roots: Files, or trees of them; and what their names begin with, for people.
        keys: Whose reads are wanted.
        without: Files to pass over.

    Raises:
        SourceNotFoundError: There is no such file or tree.
    """
    unwanted = {path.absolute() for path in without}
    reads: dict[str, list[Read]] = defaultdict(list)
    warnings: list[str] = []
    reader = _Reader(frozenset(keys), reads, warnings)
    for root, prefix in roots:
        if not root.exists():
            raise SourceNotFoundError(f"{root}: there is no such file or directory", hint="say where the code is")
        for path in _files(root):
            if path.absolute() not in unwanted:
                reader.read(path, prefix + (path.relative_to(root).as_posix() if root.is_dir() else path.name))
    reader.end()
    return Code(reads, tuple(warnings))


def _files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(each for each in folders if each not in _PASSED_OVER and not _is_venv(here / each))
        yield from (here / each for each in sorted(names))


def _is_venv(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()


class _Reader:
    def __init__(self, keys: frozenset[str], reads: dict[str, list[Read]], warnings: list[str]) -> None:
        self._keys, self._reads, self._warnings = keys, reads, warnings
        self._modules: list[Module] = []

    def read(self, path: Path, name: str) -> None:
        is_python, is_script = path.suffix in _PYTHON, path.suffix in _SCRIPTS or bool(_NAMES.fullmatch(path.name))
        try:
            if not is_python and not is_script:
                if path.suffix or path.name.startswith(".") or (shebang := _shebang(path)) is None:
                    return
                is_python = b"python" in shebang
            data = path.read_bytes()
        except OSError as error:
            self._warnings.append(f"{name}: {error.strerror}; the keys that it reads are not known")
            return
        if is_python and not name.startswith(OURS):
            self._read_python(data, name)
        elif len(data) <= _LARGEST:
            self._read_text(data, name)

    def _read_python(self, data: bytes, name: str) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line, version = getattr(error, "lineno", None) or 1, ".".join(map(str, sys.version_info[:2]))
            why = getattr(error, "msg", None) or "too deep"
            self._warnings.append(
                f"{name}:{line}: this is not Python {version} ({why}); keys count as read if they stand in it"
            )
            self._read_text(data, name)
            return
        self._modules.append(Module(name, tree))

    def _read_text(self, data: bytes, name: str) -> None:
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if _COMMENT.match(line):
                continue
            for match in _MENTION.finditer(line):
                key = match["name"] or match[0]
                is_text = line[match.start() - 1 : match.start()] in ("'", '"') and "_" in key
                if key in self._keys and (is_text or not name.startswith(OURS)):
                    self._note(_Mention(f"{name}:{number}", key, match["how"] or "", match["default"]))

    def _note(self, read: Read) -> None:
        self._reads[read.key].append(read)

    def end(self) -> None:
        """Looks at what the modules are together."""
        reads, unfollowed, names = python_reads(Program(self._modules))
        for read in reads:
            if read.key in self._keys:
                self._note(read)
        for each in unfollowed:
            self._note_unfollowed(each)
        for module in self._modules:
            for key, line in _names_in(module, names[module]):
                if key in self._keys:
                    self._note(_Mention(f"{module.name}:{line}", key))

    def _note_unfollowed(self, each: Unfollowed) -> None:
        place = f"{each.module.name}:{each.line}"
        if each.pattern is None:
            self._warnings.append(
                f"{place}: which keys are read here is not known; a key counts as read if the code names it"
            )
        for key in filter(each.pattern.fullmatch, sorted(self._keys)) if each.pattern else ():
            self._note(_Mention(place, key))


def _shebang(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline(200)
    return first if first.startswith(b"#!") else None


def _names_in(module: Module, known: Collection[ast.AST]) -> Iterator[tuple[str, int]]:
    """Texts that may be names of keys, other than those that are known to be read; tests name what they set."""
    if not re.search(r"(?:^|/)(?:tests?/|test_|conftest\.py)|_test\.py$", module.name):
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in known:
                yield node.value, node.lineno
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and any("BaseSettings" in ast.unparse(base) for base in node.bases):
            yield from _settings(node)


def _settings(node: ast.ClassDef) -> Iterator[tuple[str, int]]:
    """The fields of pydantic's settings."""
    inner = list(ast.walk(node))
    given = [each.value for each in inner if isinstance(each, ast.keyword) and each.arg == "env_prefix"]
    given += [
        each.value for each in inner if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "env_prefix"
    ]
    prefix = next((str(each.value) for each in given if isinstance(each, ast.Constant)), "")
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield (prefix + each.target.id).upper(), each.lineno
