"""Who needs a file.

A name that a package's `__init__` only passes on needs nothing by itself: it is followed to those who use it, through as
many packages as there are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from exai_files.migrate.imports import Reference, Source
from exai_files.migrate.tree import Tree, dotted

__all__ = ["Needs", "Reexport", "Use", "mentions", "needs"]

_DOCUMENTS = {".csv", ".html", ".log", ".md", ".rst", ".svg", ".txt"}
"""Their mentions are told and stand in nobody's way."""

_COMMENTS = ("#", "//", ";", "REM ")


@dataclass(frozen=True)
class Use:
    """A place that needs a module, or a name of it.

    Attributes:
        form: How it asks: "from import", "from import, in a function", "string", "path" and so on.
        what: The dotted name it asks for, or the path.
        via: The re-exports in between, as file:line.
    """

    file: str
    line: int
    form: str
    what: str
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        through = f", through {' and '.join(self.via)}" if self.via else ""
        return f"{self.file}:{self.line}: {self.form}: {self.what}{through}"


@dataclass(frozen=True)
class Reexport:
    """Names that an `__init__` imports only to pass them on: `names` maps what they are called there to the origin's."""

    source: Source
    statement: ast.ImportFrom
    names: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.source.path}:{self.statement.lineno}"


@dataclass
class Needs:
    """Who needs a file.

    Attributes:
        uses: Those in the way of removing it.
        reexports: Statements that pass its names on to nobody, or, for a move, to anybody.
    """

    uses: list[Use] = field(default_factory=list)
    reexports: list[Reexport] = field(default_factory=list)


def needs(tree: Tree, path: str, leaving: Iterable[str] = (), *, moved: bool = False) -> Needs:
    """Who needs a file.

    Args:
        tree: The tree that it is in.
        path: The file.
        leaving: Files that go together with it, and do not count.
        moved: Its names stay where they are passed on: only those who go past that need it.
    """
    question = _Question(tree, {path, *leaving}, moved)
    module = None if path in tree.shadowed else dotted(path)
    if module is not None:
        question.ask_module(module)
    question.ask_texts(path, module)
    return question.answer


def mentions(tree: Tree, path: str) -> list[str]:
    """Where documents and comments speak of a file, as file:line; nothing there stands in the way."""
    used = {(use.file, use.line) for use in needs(tree, path).uses}
    pattern = _pattern(path, None if path in tree.shadowed else dotted(path))
    found = ((file, line) for file, line, _, _ in tree.hits(pattern, _word(path), tree.files) if file != path)
    return [f"{file}:{line}" for file, line in dict.fromkeys(found) if (file, line) not in used]


class _Question:
    """Collects who needs a file."""

    def __init__(self, tree: Tree, leaving: set[str], moved: bool) -> None:
        self._tree, self._leaving, self._moved = tree, leaving, moved
        self._known: dict[tuple[str, str], list[Use]] = {}
        self.answer = Needs()

    def ask_module(self, module: str) -> None:
        """Everyone who names the module, or anything in it."""
        for source, reference, name in self._references(module):
            passed = self._passed_on(source, reference, module)
            if passed is None:
                self._add(source, reference, f"{module}.{name}" if name else module)
            elif self._moved:
                self.answer.reexports.append(passed)
            else:
                self.answer.uses += self._followed(passed, ())
        for source, reference in self._tree.prefixes:
            if source.path not in self._leaving and module.startswith(reference.target):
                self._add(source, reference, f"{reference.target}…")
        package, _, last = module.rpartition(".")
        if package in self._tree.modules and last in (self._source(package).exported or []):
            self.answer.uses.append(Use(self._source(package).path, 1, "__all__", module))

    def _add(self, source: Source, reference: Reference, what: str) -> None:
        self.answer.uses.append(Use(source.path, reference.line, reference.form, what))

    def _references(self, module: str) -> Iterator[tuple[Source, Reference, str | None]]:
        found = self._tree.index.get(module, [])
        return (each for each in found if each[0].path not in self._leaving)

    def _source(self, module: str) -> Source:
        return self._tree.sources[self._tree.modules[module]]

    # ===== names that packages pass on =====

    def _passed_on(self, source: Source, reference: Reference, module: str) -> Reexport | None:
        """The statement as a re-export: in a package, and only for whoever imports that."""
        if not source.is_package or source.module is None or reference.statement is None or reference.is_lazy:
            return None
        if reference.kind == "star":
            names = {name: name for name in self._source(module).public()}
        else:
            names = {str(reference.bound): reference.target.rpartition(".")[2]}
        is_used = not self._moved and names.keys() & source.loads
        return None if is_used else Reexport(source, reference.statement, names)

    def _followed(self, passed: Reexport, via: tuple[str, ...]) -> list[Use]:
        """Who takes what a package passes on; a statement from which nobody takes anything is noted."""
        package = str(passed.source.module)
        uses = [use for name in passed.names for use in self._name_uses(package, name, (*via, passed.place))]
        if not uses:
            self.answer.reexports.append(passed)
        return uses

    def _name_uses(self, package: str, name: str, via: tuple[str, ...]) -> list[Use]:
        """Who takes a name from a package."""
        known = self._known.get((package, name))
        if known is None:
            self._known[package, name] = []  # what is passed round in a circle is not needed by that
            what = f"{package}.{name}"
            others = (each for each in self._references(package) if each[0].module != package)
            drafts = ((s, r, taken, Use(s.path, r.line, r.form, what, via)) for s, r, taken in others)
            known = [use for draft in drafts for use in self._taken(*draft)]
            known += [replace(use, via=via) for use in self._in_texts(re.compile(_dotted_pattern(what)), what)]
            self._known[package, name] = known
        return known

    def _taken(self, source: Source, reference: Reference, taken: str | None, use: Use) -> list[Use]:
        """Whether a reference to the package is one to the name, and who is behind it."""
        package, _, name = use.what.rpartition(".")
        if reference.kind == "star":
            return self._taken_by_star(source, package, name, use)
        if reference.kind == "whole" and taken is None:
            return [use]
        if taken != name:
            return []
        passed = self._passed_on(source, reference, package)
        return self._followed(passed, use.via) if passed else [use]

    def _taken_by_star(self, source: Source, package: str, name: str, use: Use) -> list[Use]:
        """A star takes the name if it is public; whether that matters depends on what the file does with it."""
        if name not in self._source(package).public():
            return []
        spoken = {text for _, text in source.strings} - set(source.exported or [])
        if name in source.loads | spoken:
            return [use]
        return self._name_uses(source.module, name, (*use.via, f"{use.file}:{use.line}")) if source.module else []

    # ===== what is no import =====

    def ask_texts(self, path: str, module: str | None) -> None:
        """Paths in strings, and every form of it in files that are no Python."""
        pattern = _pattern(path, None)
        for source in self._tree.sources.values():
            strings = [] if source.path in self._leaving or source.error else source.strings
            for line, text in strings:
                if _word(path) in text and any(
                    not self._tree.names_another(path, found) for found in pattern.findall(text)
                ):
                    self.answer.uses.append(Use(source.path, line, "path", path))
        self.answer.uses += self._in_texts(_pattern(path, module), module or path, path)

    def _in_texts(self, pattern: re.Pattern[str], what: str, path: str = "") -> list[Use]:
        """Files that are run or read by other programs, and Python that cannot be parsed."""
        uses = [Use(*place, "text that cannot be parsed", what) for place in self._in_broken(what)]
        for file, number, line, found in self._tree.hits(pattern, _word(what), self._tree.texts):
            is_path = "/" in found or "\\" in found or found.endswith(".py")
            is_other = is_path and self._tree.names_another(path, found)
            is_document = PurePosixPath(file).suffix in _DOCUMENTS
            if not (is_document or is_other or line.lstrip().startswith(_COMMENTS)):
                uses.append(Use(file, number, "path" if is_path else "text", path if is_path else what))
        return uses

    def _in_broken(self, what: str) -> Iterator[tuple[str, int]]:
        """Where files that have the word before it seem to import the name's last word."""
        *_, package, last = ["", *what.removesuffix(".py").replace("/", ".").split(".")]
        pattern = re.compile(
            rf"^[^#]*\bimport\b.*\b{last}\b|^[^#]*[.\"'/\\]{last}\b|^\s*{last}\s*(?:[,)]|$)", re.MULTILINE
        )
        for file in self._tree.unreadable:
            if file not in self._leaving and re.search(rf"\b{package}\b", file + self._tree.text(file)):
                yield from ((path, number) for path, number, _, _ in self._tree.hits(pattern, last, [file]))


def _word(name: str) -> str:
    """What has to be in a text that names a path or a dotted name."""
    return re.split(r"[./]", name.removesuffix(".py"))[-1]


def _pattern(path: str, module: str | None) -> re.Pattern[str]:
    """The path, with whatever directories before it; and the dotted name."""
    parts = r"[/\\]".join(re.escape(part) for part in path.split("/"))
    before = r"[\w./\\${}-]*[/\\]" if "/" in path else r"\./"
    forms = [rf"(?<![\w./\\-])(?:{before})?{parts}(?![\w.])"]
    if module:
        forms.append(_dotted_pattern(module))
    return re.compile("|".join(forms))


def _dotted_pattern(name: str) -> str:
    """A dotted name: `config.X`, `config:X`, `from config import X`; a single one is too common to be enough."""
    package, _, last = map(re.escape, name.rpartition("."))
    if not package:
        return rf"(?:-m|\bimport)\s+{last}(?![\w.])|(?<![\w.]){last}:[A-Za-z_]"
    return rf"(?<![\w.]){package}[.:]{last}(?!\w)|\bfrom\s+{package}\s+import\b[^\"';]*\b{last}\b"
