"""The Python files of a tree put together: what names mean, and who refers to which module."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from exai_files.migrate.imports import Reference, Source, top_level

__all__ = ["Tree", "dotted", "importable"]

_LARGEST_TEXT = 1 << 20


class Tree:
    """The files below a directory that is on the tool's `sys.path`.

    Attributes:
        sources: The Python files, by path.
        modules: Their paths, by dotted name.
        texts: The other files.
        shadowed: Files that no name leads to, and the package that has their name.
    """

    def __init__(self, root: Path, files: Iterable[str], known: Mapping[str, Source] | None = None) -> None:
        self.root = root
        self.files = sorted(file for file in files if (root / file).is_file())
        self.modules: dict[str, str] = {}
        self.shadowed: dict[str, str] = {}
        self._read: dict[str, str] = {}
        for file in self.files:
            self._name(file)
        names = {path: name for name, path in self.modules.items()}
        self.texts = [file for file in self.files if not file.endswith(".py")]
        known = {path: each for path, each in (known or {}).items() if each.module == names.get(path)}
        self.sources = {
            file: known.get(file) or Source.read(root, file, names.get(file))
            for file in self.files
            if file.endswith(".py")
        }

    def _name(self, file: str) -> None:
        name = dotted(file)
        if name is None:
            return
        rival = self.modules.get(name)
        if rival is not None and rival.endswith("__init__.py"):
            self.shadowed[file] = rival
            return
        if rival is not None:
            self.shadowed[rival] = file
        self.modules[name] = file

    def reread(self, changed: Collection[str]) -> Tree:
        """The tree as it is now, where these files have changed or gone."""
        known = {path: source for path, source in self.sources.items() if path not in changed}
        return Tree(self.root, self.files, known)

    @property
    def unreadable(self) -> dict[str, str]:
        """Files without a syntax tree, and why."""
        return {path: source.error for path, source in self.sources.items() if source.error}

    # ===== what names mean =====

    @cached_property
    def _tops(self) -> set[str]:
        return {name.partition(".")[0] for name in self.modules}

    @cached_property
    def _packages(self) -> set[str]:
        parents = (name.split(".")[:length] for name in self.modules for length in range(1, name.count(".") + 2))
        return {".".join(parts) for parts in parents}

    def absolute(self, target: str, source: Source) -> str:
        """The target as seen from the root: scripts may also have their own and other directories on `sys.path`."""
        first = target.partition(".")[0]
        if first in self._tops or first in sys.stdlib_module_names:
            return target
        folders = [str(folder).replace("/", ".") for folder in PurePosixPath(source.path).parents if folder.name]
        beside = (folder for folder in [*folders, *sorted(self._tops)] if f"{folder}.{first}" in self._packages)
        folder = next(beside, None)
        return f"{folder}.{target}" if folder else target

    def located(self, target: str) -> tuple[str, str | None] | None:
        """The module that a dotted name begins with, and the name in it that comes next."""
        parts = target.split(".")
        for length in range(len(parts), 0, -1):
            module = ".".join(parts[:length])
            if module in self.modules:
                return module, parts[length] if length < len(parts) else None
        return None

    @cached_property
    def index(self) -> dict[str, list[tuple[Source, Reference, str | None]]]:
        """By module: who refers to it, and to which name of it."""
        index: dict[str, list[tuple[Source, Reference, str | None]]] = {}
        for source in self.sources.values():
            for reference in source.references:
                if reference.base and self.absolute(reference.base, source) not in self._packages:
                    continue
                located = self.located(self.absolute(reference.target, source))
                if located and reference.kind != "prefix":
                    index.setdefault(located[0], []).append((source, reference, located[1]))
        return index

    @cached_property
    def prefixes(self) -> list[tuple[Source, Reference]]:
        """Imports of names made at run time."""
        return [(s, r) for s in self.sources.values() for r in s.references if r.kind == "prefix"]

    # ===== text =====

    def hits(self, pattern: re.Pattern[str], word: str, files: Iterable[str]) -> Iterator[tuple[str, int, str, str]]:
        """Path, line number, line and what was found there, in lines that have the word."""
        for file in files:
            lines = self.text(file).splitlines() if word in self.text(file) else []
            for number, line in enumerate(lines, 1):
                if word in line:
                    yield from ((file, number, line, found.group()) for found in pattern.finditer(line))

    def text(self, file: str) -> str:
        """What is in a file; nothing where that is no text, or very much."""
        if file in self.sources:
            return self.sources[file].text
        if file not in self._read:
            data = b"" if (self.root / file).stat().st_size > _LARGEST_TEXT else (self.root / file).read_bytes()
            self._read[file] = "" if b"\0" in data else data.decode("utf-8", "replace")
        return self._read[file]

    def names_another(self, path: str, found: str) -> bool:
        """Whether a path that ends like this one is that of another file."""
        name = found.replace("\\", "/").removeprefix("./")
        return name != path and name in self.files


def dotted(path: str) -> str | None:
    """The name that a file is imported by, or None: `config/timeouts.py` is `config.timeouts`."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    is_name = path.endswith(".py") and parts and all(part.isidentifier() for part in parts)
    return ".".join(parts) if is_name else None


# ===== what can be imported to see whether all is well =====


def importable(tree: Tree) -> tuple[list[str], list[str]]:
    """The modules that may be imported, and the scripts that would do their work if they were."""
    modules: list[str] = []
    scripts: list[str] = []
    for name, path in sorted(tree.modules.items()):
        source = tree.sources[path]
        is_run = path.endswith("__main__.py") or not (_in_package(tree, path) or _is_harmless(source))
        (scripts if is_run else modules).append(path if is_run else name)
    return modules, scripts


def _in_package(tree: Tree, path: str) -> bool:
    return f"{path.rpartition('/')[0]}/__init__.py" in tree.sources


def _is_harmless(source: Source) -> bool:
    """Whether a loose file keeps its work behind `if __name__ == "__main__"`, or has none."""
    statements = list(top_level(source.tree))
    if any(isinstance(each, ast.If) and "'__main__'" in ast.dump(each.test) for each in statements):
        return True
    return not any(
        isinstance(each, (ast.Expr, ast.For, ast.While, ast.With)) and not _is_text(each) for each in statements
    )


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
