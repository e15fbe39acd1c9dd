"""Moving what a module defines into another one, before the module goes.

A class whose like is there already (`TimeoutConfig` beside `OperationsConfig`, which has most of its members) gives it
the members that it lacks, and stays as an alias; everything else moves as it is, with the imports and definitions that
it needs. Where both define a name differently nothing is moved, unless the caller accepts the definition that stays.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Union

from exai_files.errors import ConflictError, UnsupportedError
from exai_files.migrate.edits import Editor
from exai_files.migrate.imports import Source

__all__ = ["Move"]

Compare = Callable[[Sequence[tuple[str, str]], Sequence[str], Collection[str]], tuple[list[bool], list[bool]]]
"""As `Interpreter.compare`."""

Imports = (ast.Import, ast.ImportFrom)
Functions = (ast.FunctionDef, ast.AsyncFunctionDef)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass
class _Pair:
    """A name that both have: what each calls it, and its definitions."""

    name: str
    old: ast.stmt
    new: ast.stmt
    paths: tuple[str, str]


@dataclass
class Move:
    """What has to be added to a module so that it can stand in for another.

    Args:
        old: The module that goes.
        new: The module that stays.
        accepted: Names for which the definition that stays counts, although it differs.
    """

    old: Source
    new: Source
    accepted: Collection[str] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    _definitions: list[ast.stmt] = field(default_factory=list)
    _members: dict[str, list[ast.stmt]] = field(default_factory=dict)
    _imports: list[tuple[int, str]] = field(default_factory=list)
    _pairs: list[_Pair] = field(default_factory=list)
    _absent: list[str] = field(default_factory=list)
    _settled: set[str] = field(default_factory=set)

    def plan(self, names: Iterable[str], compare: Compare) -> None:
        """Finds out what has to move for these names.

        Raises:
            ConflictError: Both modules define one of them, or one that it needs, differently.
            UnsupportedError: It cannot be moved by machine.
        """
        for side in (self.old, self.new):
            if side.error:
                raise UnsupportedError(f"{side.path} cannot be parsed: {side.error}")
        for name in names:
            self._settle(name)
        self._check(compare)

    @property
    def moved(self) -> list[str]:
        """What the new module gets, as it is called there."""
        members = [
            f"{owner}.{name}" for owner, found in self._members.items() for each in found for name in _names(each)
        ]
        return [name for each in self._ordered() for name in _names(each)] + members + list(self.aliases)

    def _ordered(self) -> list[ast.stmt]:
        return sorted(self._definitions, key=lambda each: each.lineno)

    # ===== names =====

    def _settle(self, name: str) -> None:
        """Sees to it that the new module has the name."""
        if name in self._settled:
            return
        self._settled.add(name)
        here, there = _definition(self.old, name), _definition(self.new, name)
        if there is not None and name in self.accepted:
            return
        if here is None:
            raise UnsupportedError(f"{self.old.path} defines {name} within other statements", hint="move it by hand")
        like = self._like(here) if there is None and isinstance(here, ast.ClassDef) else there
        if isinstance(here, ast.ClassDef) and isinstance(like, ast.ClassDef):
            self._merge(here, like)
        elif isinstance(here, Imports):
            self._settle_import(name, here, there)
        elif there is not None:
            self._pair(name, here, there, name, name)
        elif here not in self._definitions:
            self._definitions.append(here)
            self._settle_needs(here)

    def _settle_needs(self, statement: ast.stmt) -> None:
        """What moved code needs is there too."""
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        for name in sorted(used & self.old.bindings.keys()):
            self._settle(name)

    def _settle_import(self, name: str, here: Union[ast.Import, ast.ImportFrom], there: ast.stmt | None) -> None:
        wanted = _imported(self.old, here, name)
        if wanted == f"{self.new.module}.{name}" and there is not None:
            return
        if there is None:
            self._imports.append((here.lineno, _import_text(self.old, self.new, here, name)))
        elif not isinstance(there, Imports) or _imported(self.new, there, name) != wanted:
            self._pair(name, here, there, name, name)

    def _like(self, old: ast.ClassDef) -> ast.ClassDef | None:
        """The one class of the new module that has at least half of its members."""
        mine = _members(old).keys()
        classes = [each for each in self.new.tree.body if isinstance(each, ast.ClassDef)]
        likes = [each for each in classes if len(mine & _members(each).keys()) * 2 >= max(len(mine), 1)]
        return likes[0] if len(likes) == 1 and mine else None

    def _merge(self, old: ast.ClassDef, new: ast.ClassDef) -> None:
        """The new class gets what it lacks, and the old one's name."""
        if lacking := _heritage(old) - _heritage(new):
            raise ConflictError(
                f"{self._at(self.old, old)} {old.name} has {', '.join(sorted(lacking))}, and "
                f"{self._at(self.new, new)} {new.name} has not"
            )
        if old.name != new.name:
            self.aliases[old.name] = new.name
        there = _members(new)
        for name, member in _members(old).items():
            if name in there:
                self._pair(name, member, there[name], f"{old.name}.{name}", f"{new.name}.{name}")
            elif member not in self._members.setdefault(new.name, []):
                self._members[new.name].append(member)
                self._absent.append(f"{new.name}.{name}")
                self._settle_needs(member)

    # ===== what both define =====

    def _pair(self, name: str, old: ast.stmt, new: ast.stmt, old_path: str, new_path: str) -> None:
        if not {name, old_path} & set(self.accepted):
            if _shape(old, self.aliases) == _shape(new, {}):
                self._settle_needs(old)  # alike in words, if what they name is
            self._pairs.append(
                _Pair(name, old, new, (f"{self.old.module}:{old_path}", f"{self.new.module}:{new_path}"))
            )

    def _check(self, compare: Compare) -> None:
        """Definitions that look different may give the same data; attributes may be inherited."""
        differing = [pair for pair in self._pairs if _shape(pair.old, self.aliases) != _shape(pair.new, {})]
        data = [pair for pair in differing if not isinstance(pair.old, (*Functions, ast.ClassDef))]
        absent = [name for name in self._absent if name.rpartition(".")[2] not in self.accepted]
        same: list[bool] = []
        there: list[bool] = []
        if data or absent:
            asked = [f"{self.new.module}:{name}" for name in absent]
            same, there = compare([pair.paths for pair in data], asked, self._variables())
        equal = [pair for pair, is_same in zip(data, same, strict=True) if is_same]
        clashes = [
            f"{pair.name} ({self._at(self.old, pair.old)}, {self._at(self.new, pair.new)})"
            for pair in differing
            if pair not in equal
        ]
        clashes += [f"{name} (inherited there)" for name, is_there in zip(absent, there, strict=True) if is_there]
        if clashes:
            raise ConflictError(
                f"{self.new.path} defines otherwise: {', '.join(clashes)}",
                hint="--accept NAME takes the definition that is there",
            )

    def _variables(self) -> set[str]:
        """Environment variables that either may read."""
        strings = {text for source in (self.old, self.new) for _, text in source.strings}
        return {text for text in strings if _VARIABLE.fullmatch(text) and not text.startswith(("PYTHON", "LD_"))}

    @staticmethod
    def _at(source: Source, statement: ast.stmt) -> str:
        return f"{source.path}:{statement.lineno}"

    # ===== the edit =====

    def edit(self) -> Editor:
        """The new module with everything added."""
        editor, old = Editor(self.new), Editor(self.old)
        if self._imports:
            editor.insert_after(
                _end_of_imports(self.new.tree), "".join(f"{each}\n" for _, each in sorted(self._imports))
            )
        classes = {each.name: each for each in self.new.tree.body if isinstance(each, ast.ClassDef)}
        touched = [classes[name] for name in [*self._members, *self.aliases.values()]]
        text = self._written(old)
        if text and touched:
            first = editor.comments_above(editor.lines_of(min(touched, key=lambda each: each.lineno))[0])
            editor.insert_after(first, f"{text}\n\n\n")
        elif text:
            editor.insert_after(_last_line(self.new.tree), f"\n\n{text}\n")
        for name, new in classes.items():
            self._extend(editor, old, new, [alias for alias, target in self.aliases.items() if target == name])
        return editor

    def _written(self, old: Editor) -> str:
        """The definitions that move, with as many blank lines between them as is usual."""
        text, last = "", None
        for each in self._ordered():
            is_near = isinstance(each, _ASSIGNMENTS) and isinstance(last, _ASSIGNMENTS)
            text += ("" if last is None else "\n\n" if is_near else "\n\n\n") + old.source_of(each)
            last = each
        return text.replace("\r\n", "\n")

    def _extend(self, editor: Editor, old: Editor, new: ast.ClassDef, aliases: Sequence[str]) -> None:
        members = self._members.get(new.name, [])
        if any(member.col_offset != new.body[0].col_offset for member in members):
            raise UnsupportedError(f"{self.old.path} and {self.new.path} are indented differently")
        texts = [f"\n{old.source_of(each)}\n" for each in members]
        texts += ["\n\n" if aliases else "", *(f"{alias} = {new.name}\n" for alias in aliases)]
        if any(texts):
            editor.insert_after(new.end_lineno or new.lineno, "".join(texts).replace("\r\n", "\n"))


# ===== definitions =====


def _definition(source: Source, name: str) -> ast.stmt | None:
    """The statement at the top of the file that gives a name, or None."""
    statement = source.bindings.get(name)
    if statement is not None and statement not in source.tree.body:
        raise UnsupportedError(
            f"{source.path}:{statement.lineno} defines {name} only under a condition", hint="move it by hand"
        )
    return statement


def _members(owner: ast.ClassDef) -> dict[str, ast.stmt]:
    return {name: statement for statement in owner.body for name in _names(statement)}


def _names(statement: ast.stmt) -> list[str]:
    """What a definition defines."""
    if isinstance(statement, (*Functions, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _heritage(owner: ast.ClassDef) -> set[str]:
    """Bases, keywords and decorators: what members may rely on."""
    written = [*owner.bases, *(keyword.value for keyword in owner.keywords), *owner.decorator_list]
    return {ast.unparse(each) for each in written} - {"object"}


class _Plain(ast.NodeTransformer):
    """Leaves out what does not matter: docstrings, and which of two names of a class is used."""

    def __init__(self, aliases: dict[str, str]) -> None:
        self._aliases = aliases

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (*Functions, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Name):
            node.id = self._aliases.get(node.id, node.id)
        return super().generic_visit(node)


def _shape(statement: ast.stmt, aliases: dict[str, str]) -> str:
    """What a definition says, however it is written."""
    said: ast.AST | None = copy.deepcopy(statement)
    if isinstance(said, _ASSIGNMENTS):
        said = said.value
    return ast.dump(_Plain(aliases).visit(said)) if said else ""


# ===== imports =====


def _imported(source: Source, statement: Union[ast.Import, ast.ImportFrom], name: str) -> str:
    """What an import gives a name to, absolute."""
    alias = next(each for each in statement.names if (each.asname or each.name.partition(".")[0]) == name)
    if isinstance(statement, ast.Import):
        return alias.name if alias.asname else name
    return f"{source.absolute(statement.module, statement.level)}.{alias.name}"


def _import_text(old: Source, new: Source, statement: Union[ast.Import, ast.ImportFrom], name: str) -> str:
    """The same import for another module."""
    alias = next(each for each in statement.names if (each.asname or each.name.partition(".")[0]) == name)
    if isinstance(statement, ast.Import):
        return ast.unparse(ast.Import([alias]))
    is_near = old.package == new.package
    module, level = (
        (statement.module, statement.level) if is_near else (old.absolute(statement.module, statement.level), 0)
    )
    return ast.unparse(ast.ImportFrom(module, [alias], level))


def _end_of_imports(tree: ast.Module) -> int:
    """The line after which another import can stand."""
    last = 0
    for index, statement in enumerate(tree.body):
        is_docstring = index == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if isinstance(statement, Imports) or is_docstring:
            last = statement.end_lineno or last
        elif isinstance(statement, (*Functions, ast.ClassDef)):
            break
    return last


def _last_line(tree: ast.Module) -> int:
    return tree.body[-1].end_lineno or 0 if tree.body else 0
