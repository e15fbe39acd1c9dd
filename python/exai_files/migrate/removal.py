"""Removes files batch by batch: looks who needs them, edits what passed their names on, verifies, commits or takes back."""

from __future__ import annotations

import ast
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from exai_files.errors import ConflictError, Error
from exai_files.migrate.branch import Branch
from exai_files.migrate.edits import Editor
from exai_files.migrate.imports import Source
from exai_files.migrate.moves import Move
from exai_files.migrate.needs import Needs, Reexport, Use, mentions, needs
from exai_files.migrate.tree import Tree, importable
from exai_files.migrate.verification import Imported, Interpreter, damage

__all__ = ["LegacyFile", "Removal"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LegacyFile:
    """What became of one file.

    Attributes:
        outcome: "removed", or would be in a dry run; "refused": something needs it, or it cannot be edited; "broke":
            without it something did not import any more, and it was put back.
        why: What stood in the way, or None.
        uses: Who needs it.
        moved: What its successor `moved_to` got from it.
        dropped: Names that packages do not pass on any more; nobody took them.
        remarks: What else there is to know.
        mentions: Documents and comments that still speak of it, as file:line.
    """

    file: str
    outcome: Literal["removed", "refused", "broke"]
    why: str | None = None
    uses: tuple[Use, ...] = ()
    moved_to: str | None = None
    moved: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


class _RefusedError(Exception):
    """A file that stays."""

    def __init__(self, outcome: LegacyFile) -> None:
        super().__init__(outcome.file)
        self.outcome = outcome


@dataclass
class _Batch:
    """What one commit does.

    Attributes:
        dropped: Names that go, by edited module.
    """

    files: list[LegacyFile] = field(default_factory=list)
    edited: set[str] = field(default_factory=set)
    dropped: dict[str, set[str]] = field(default_factory=dict)


class Removal:
    """Goes through all files, batch by batch."""

    def __init__(
        self,
        branch: Branch,
        interpreter: Interpreter,
        requests: Mapping[str, str | None],
        accepted: Collection[str],
        *,
        is_dry: bool,
    ) -> None:
        self._branch, self._interpreter = branch, interpreter
        self._requests, self._accepted, self._is_dry = requests, accepted, is_dry
        self._tree = Tree(branch.root, branch.files())
        self._names = {path: name for name, path in self._tree.modules.items()}
        self._before: dict[str, Imported] = {}
        self.unreadable = self._tree.unreadable
        self.outcomes: dict[str, LegacyFile] = {}
        self.commits: list[str] = []
        self.failing: dict[str, str] = {}
        self.scripts: list[str] = []

    @property
    def imported(self) -> int:
        """Modules that import, as far as they were asked to."""
        return len(self._before)

    def run(self, batch_size: int) -> None:
        units = self._units(self._removable())
        if units and not self._is_dry:
            self._import_all()
        for batch in _batches(units, batch_size):
            self._attempt(batch)

    def _import_all(self) -> None:
        """How things are now: what does not import need not import later."""
        modules, self.scripts = importable(self._tree)
        log.info("importing %d modules as they are", len(modules))
        found = self._interpreter.import_all(modules)
        self.failing = {name: each.error for name, each in found.items() if each.error}
        self._before = {name: each for name, each in found.items() if not each.error}

    # ===== which =====

    def _removable(self) -> list[str]:
        """The files that nothing needs but each other."""
        leaving = list(self._requests)
        while True:
            needed = {file: each for file in leaving if (each := self._needs(file, leaving)).uses}
            self.outcomes.update({file: _needed(file, each) for file, each in needed.items()})
            if not needed:
                return leaving
            leaving = [file for file in leaving if file not in needed]

    def _needs(self, file: str, leaving: Iterable[str]) -> Needs:
        return needs(self._tree, file, leaving, moved=self._requests[file] is not None)

    def _units(self, files: Sequence[str]) -> list[list[str]]:
        """Files that need each other go together."""
        users = {file: {use.file for use in self._needs(file, ()).uses} for file in files}
        units: list[list[str]] = []
        for file in files:
            near = [unit for unit in units if users[file] & set(unit) or any(file in users[each] for each in unit)]
            units = [unit for unit in units if unit not in near] + [[*(each for unit in near for each in unit), file]]
        return units

    # ===== a batch =====

    def _attempt(self, units: Sequence[Sequence[str]]) -> None:
        """Removes the files, looks whether all is well, and commits; or takes it back."""
        files = [file for unit in units for file in unit]
        if not files:
            return
        batch = _Batch()
        try:
            for file in files:
                batch.files.append(self._apply(file, files, batch))
        except _RefusedError as refusal:
            self._undo()
            self.outcomes[refusal.outcome.file] = refusal.outcome
            self._attempt([[file for file in unit if file != refusal.outcome.file] for unit in units])
            return
        found = [] if self._is_dry else self._verify(batch)
        if not found:
            self._commit(batch)
            return
        self._undo()
        if len(units) > 1:
            for unit in units:
                self._attempt([unit])
            return
        why = "; ".join(found[:5])
        for each in batch.files:
            self.outcomes[each.file] = LegacyFile(each.file, "broke", why, moved_to=each.moved_to)

    def _undo(self) -> None:
        self._branch.undo()
        self._tree = Tree(self._branch.root, self._branch.files())

    def _verify(self, batch: _Batch) -> list[str]:
        gone = {self._names.get(file.file) for file in batch.files}
        modules = [name for name in self._before if name not in gone]
        log.info("importing %d modules without %s", len(modules), ", ".join(file.file for file in batch.files))
        after = self._interpreter.import_all(modules)
        found = damage(self._before, after, batch.dropped)
        if not found:
            self._before = after
        return found

    def _commit(self, batch: _Batch) -> None:
        paths = [file.file for file in batch.files]
        self.commits.append(self._branch.commit(_message(batch), [*paths, *sorted(batch.edited)]))
        self.outcomes.update({file.file: file for file in batch.files})

    # ===== a file =====

    def _apply(self, file: str, leaving: Collection[str], batch: _Batch) -> LegacyFile:
        """Removes one file, and edits what passed its names on."""
        found = self._needs(file, leaving)
        if found.uses:
            raise _RefusedError(_needed(file, found))
        target = self._requests[file]
        source = self._tree.sources[file]
        remarks, spoken = tuple(self._remarks(source)), tuple(mentions(self._tree, file))
        try:
            if self._is_parent(file):
                raise ConflictError(f"{file} makes a package of its directory", hint="remove its other modules first")
            if target is None:
                editors, dropped = _without(found.reexports)
                move = None
            else:
                move = self._move(source, self._tree.sources[target], found.reexports)
                editors, dropped = _elsewhere(found.reexports, move), {}
            for editor in editors:
                editor.result()
        except Error as error:
            raise _RefusedError(LegacyFile(file, "refused", str(error), moved_to=target)) from None
        for editor in editors:
            editor.write(self._branch.root)
            batch.edited.add(editor.source.path)
            module = editor.source.module or ""
            batch.dropped.setdefault(module, set()).update(dropped.get(module, ()))
        (self._branch.root / file).unlink()
        self._tree = self._tree.reread({file, *(editor.source.path for editor in editors)})
        return LegacyFile(
            file,
            "removed",
            moved_to=target,
            moved=tuple(move.moved) if move else (),
            dropped=tuple(f"{module}.{name}" for module, names in dropped.items() for name in sorted(names)),
            remarks=remarks,
            mentions=spoken,
        )

    def _is_parent(self, file: str) -> bool:
        folder, _, name = file.rpartition("/")
        inside = (each for each in self._tree.sources if each.startswith(f"{folder}/") and each != file)
        return name == "__init__.py" and next(inside, None) is not None

    def _move(self, old: Source, new: Source, reexports: Sequence[Reexport]) -> Move:
        if new.module is None or new.is_package:
            raise ConflictError(f"{new.path} cannot take names", hint="move them to a module that can be imported")
        move = Move(old, new, self._accepted)
        move.plan(dict.fromkeys(name for each in reexports for name in each.names.values()), self._interpreter.compare)
        return move

    def _remarks(self, source: Source) -> Iterator[str]:
        winner = self._tree.shadowed.get(source.path)
        if winner:
            yield f"no import leads to it: {winner} has its name"
        if source.error:
            yield f"it cannot be parsed: {source.error}"
        lines = [str(statement.lineno) for statement in source.tree.body if _does_something(statement)]
        if lines:
            yield f"what it does when it is imported goes too: line {', '.join(lines)}"


def _needed(file: str, found: Needs) -> LegacyFile:
    uses = tuple(dict.fromkeys(sorted(found.uses, key=lambda use: (use.file, use.line))))
    places = len({use.file for use in uses})
    return LegacyFile(file, "refused", f"needed in {places} file{'s' * (places > 1)}", uses)


def _batches(units: Sequence[Sequence[str]], size: int) -> list[list[Sequence[str]]]:
    batches: list[list[Sequence[str]]] = []
    for unit in units:
        if not batches or sum(map(len, batches[-1])) + len(unit) > size:
            batches.append([])
        batches[-1].append(unit)
    return batches


def _does_something(statement: ast.stmt) -> bool:
    """Whether a statement is more than a definition, and not behind `if __name__ == "__main__"`."""
    defines = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Import,
        ast.ImportFrom,
        ast.Assign,
        ast.AnnAssign,
    )
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    is_main = isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test)
    return not (isinstance(statement, (*defines, ast.Pass)) or is_text or is_main)


# ===== edits of packages =====


def _without(reexports: Sequence[Reexport]) -> tuple[list[Editor], dict[str, set[str]]]:
    """The packages without these names."""
    editors = {each.source.path: Editor(each.source) for each in reexports}
    names: dict[str, set[str]] = {each.source.path: set() for each in reexports}
    for each in reexports:
        names[each.source.path] |= each.names.keys()
    for statement, source in {id(each.statement): (each.statement, each.source) for each in reexports}.values():
        editors[source.path].drop_imports(statement, names[source.path])
    for path, editor in editors.items():
        editor.drop_from_all(names[path])
    return list(editors.values()), {editor.source.module or "": names[path] for path, editor in editors.items()}


def _elsewhere(reexports: Sequence[Reexport], move: Move) -> list[Editor]:
    """The packages with these names from another module, and that module."""
    editors = {each.source.path: Editor(each.source) for each in reexports}
    for each in {id(each.statement): each for each in reexports}.values():
        is_near = each.statement.level == 1 and move.new.package == each.source.package
        module = f".{move.new.path.rpartition('/')[2].removesuffix('.py')}" if is_near else str(move.new.module)
        is_star = each.statement.names[0].name == "*"
        editors[each.source.path].point_elsewhere(each.statement, module, each.names if is_star else None)
    return [move.edit(), *editors.values()]


def _message(batch: _Batch) -> str:
    """A subject, and a line for each file."""
    names = [file.file for file in batch.files]
    subject = f"remove {names[0]}" if len(names) == 1 else f"remove {len(names)} modules that nothing needs"
    return "\n".join([subject, "", *map(_line, batch.files)])


def _line(file: LegacyFile) -> str:
    to = f"; {file.moved_to} has its names" if file.moved_to else ""
    moved = f", with {', '.join(file.moved)}" if file.moved else ""
    dropped = f"; not passed on any more: {', '.join(file.dropped)}" if file.dropped else ""
    return f"- {file.file}{to}{moved}{dropped}"
