"""Edits of a Python file's text, as small as they can be: what is not edited keeps its formatting and its comments."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Union

from exai_files.errors import UnsupportedError
from exai_files.migrate.imports import Source, all_statements, top_level

__all__ = ["Editor"]

Located = Union[ast.expr, ast.stmt, ast.alias]


class Editor:
    """Collects edits of one file, and writes it.

    Attributes:
        source: The file as it is.
        newline: How its lines end.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", source.text)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._changes: list[tuple[int, int, str]] = []
        self._doomed: set[int] = set()
        self.newline = "\r\n" if "\r\n" in source.text else "\n"

    # ===== where things are =====

    def span(self, node: Located) -> tuple[int, int]:
        """Offsets of a node in the text."""
        end = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self._offset(node.lineno, node.col_offset), self._offset(*end)

    def _offset(self, line: int, column: int) -> int:
        # Columns count bytes of UTF-8, whatever the file's encoding.
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def lines_of(self, node: ast.stmt) -> tuple[int, int]:
        """First line, with decorators, and last line, from 0; nothing else is on them.

        Raises:
            UnsupportedError: Something else is.
        """
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
        last = (node.end_lineno or node.lineno) - 1
        start, end = self.span(node)
        before = self._text(self._starts[first], start).strip() if first == node.lineno - 1 else ""
        after = self._text(end, self._starts[last + 1]).strip()
        if before:
            raise self._unable(node, "there is something before it on its line")
        if after and not after.startswith("#"):
            raise self._unable(node, "there is something behind it on its line")
        return first, last

    def _unable(self, node: Located, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.source.path}:{node.lineno} cannot be edited: {why}", hint="edit it by hand, and commit that"
        )

    def _text(self, start: int, end: int) -> str:
        return "".join(self._lines)[start:end]

    def comments_above(self, line: int) -> int:
        """The first of the comment lines that stand directly above a line."""
        while line > 0 and self._lines[line - 1].lstrip().startswith("#"):
            line -= 1
        return line

    def source_of(self, node: ast.stmt) -> str:
        """A statement with its decorators and the comments above it."""
        first, last = self.lines_of(node)
        return self._text(self._starts[self.comments_above(first)], self._starts[last + 1]).rstrip()

    # ===== edits =====

    def change(self, start: int, end: int, text: str) -> None:
        self._changes.append((start, end, text))

    def insert_after(self, line: int, text: str) -> None:
        """Text of whole lines after a line, counted from 1; 0 is the beginning."""
        at = self._starts[min(line, len(self._lines))]
        ends_line = at == 0 or self._text(at - 1, at) in "\r\n"
        self.change(at, at, ("" if ends_line else self.newline) + text.replace("\n", self.newline))

    def drop_imports(self, statement: ast.ImportFrom, names: Collection[str]) -> None:
        """Some names of an import, or all of it, with a `try` or `if` around that would have nothing left to do."""
        doomed = [alias for alias in statement.names if alias.name == "*" or (alias.asname or alias.name) in names]
        if len(doomed) < len(statement.names):
            self._drop_items(statement.names, doomed)
            return
        self._drop_statement(statement, names)

    def _drop_statement(self, statement: ast.stmt, names: Collection[str]) -> None:
        parent = self._parent_of(statement)
        if parent is None or any(statement in body and len(body) > 1 for body in _bodies(parent)):
            self._doom(*self.lines_of(statement))
        elif statement in parent.body and _is_idle_without(parent, names):
            self._drop_statement(parent, names)
        else:
            self.change(*self.span(statement), "pass")

    def _parent_of(self, statement: ast.stmt) -> ast.Try | ast.If | ast.With | None:
        """The compound statement that it is in, or None at the top."""
        parents = [p for p in top_level(self.source.tree) if isinstance(p, (ast.Try, ast.If, ast.With))]
        return next((p for p in parents if any(statement in body for body in _bodies(p))), None)

    def drop_from_all(self, names: Collection[str]) -> None:
        """Names that are written out in `__all__`."""
        for statement in all_statements(self.source.tree):
            for node in ast.walk(statement):
                if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
                    doomed = [each for each in node.elts if isinstance(each, ast.Constant) and each.value in names]
                    self._drop_items(node.elts, doomed)
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.Call) and any(isinstance(a, ast.Constant) and a.value in names for a in call.args):
                self._doom(*self.lines_of(statement))

    def point_elsewhere(self, statement: ast.ImportFrom, module: str, names: dict[str, str] | None = None) -> None:
        """Has an import take its names from another module; `names` are written out in place of a star."""
        start, end = self.span(statement)
        head = re.match(r"from\s+[.\w\s]+?\s+import\b", self._text(start, end))
        if head is None:
            raise self._unable(statement, "it is written in an unusual way")
        self.change(start, start + head.end(), f"from {module} import")
        if names is not None:
            written = ", ".join(name if name == bound else f"{name} as {bound}" for bound, name in names.items())
            self.change(*self.span(statement.names[0]), written)

    def _drop_items(self, items: Sequence[Located], doomed: Sequence[Located]) -> None:
        for item in doomed:
            first, last = item.lineno - 1, (item.end_lineno or item.lineno) - 1
            start, end = self.span(item)
            comma = re.match(r"[ \t]*,", self._text(end, self._starts[last + 1]))
            after_comma = end + (comma.end() if comma else 0)
            rest = self._text(after_comma, self._starts[last + 1]).strip()
            if not self._text(self._starts[first], start).strip() and (not rest or rest.startswith("#")):
                self._doom(first, last)
            else:
                self.change(*self._item_in_line(items, doomed, item, after_comma), "")

    def _item_in_line(
        self, items: Sequence[Located], doomed: Sequence[Located], item: Located, after_comma: int
    ) -> tuple[int, int]:
        """What to cut so that commas and spaces are right."""
        at = list(items).index(item)
        start, end = self.span(item)
        line = item.lineno
        if any(each not in doomed and each.lineno == line for each in items[at + 1 :]):
            return start, self.span(items[at + 1])[0]
        before = [each for each in items[:at] if each not in doomed and each.end_lineno == line]
        if before:
            return self.span(before[-1])[1], end
        return start, after_comma

    def _doom(self, first: int, last: int) -> None:
        self._doomed.update(range(first, last + 1))

    def _drop_lines(self, first: int, last: int) -> tuple[int, int, str]:
        """Lines, with a comment above that would be about nothing, and without a gap where they were."""
        below = self._lines[last + 1] if last + 1 < len(self._lines) else ""
        ends = not below.strip() or below.lstrip()[0] in ")]}"
        comments = self.comments_above(first)
        if ends and comments > 0:
            first = comments
        above = self._blank_lines(range(first - 1, -1, -1))
        under = self._blank_lines(range(last + 1, len(self._lines)))
        if first > 0 and self._lines[first - 1].rstrip().endswith(("(", "[", "{")):
            last += under
        elif ends and (below.strip() or not below):
            first -= above
        else:
            last += min(above, under)
        return self._starts[first], self._starts[last + 1], ""

    def _blank_lines(self, numbers: Iterable[int]) -> int:
        count = 0
        for number in numbers:
            if self._lines[number].strip() or not self._lines[number]:
                break
            count += 1
        return count

    # ===== the result =====

    def result(self) -> str:
        """The text as edited.

        Raises:
            UnsupportedError: It would be no Python any more.
        """
        text = "".join(self._lines)
        dropped = [self._drop_lines(first, last) for first, last in _runs(self._doomed)]
        for start, end, new in sorted(_merged([*self._changes, *dropped]), reverse=True):
            text = text[:start] + new + text[end:]
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise UnsupportedError(
                f"{self.source.path} cannot be edited: line {error.lineno} would be no Python",
                hint="edit it by hand, and commit that",
            ) from None
        return text

    def write(self, root: Path) -> None:
        """Writes the file back, in its encoding."""
        text = self.result()
        (root / self.source.path).write_bytes(text.encode(self.source.encoding))


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of numbers that follow each other."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        begins = not runs or runs[-1][1] != number - 1
        runs = [*runs, (number, number)] if begins else [*runs[:-1], (runs[-1][0], number)]
    return runs


def _bodies(statement: ast.stmt) -> list[list[ast.stmt]]:
    inner = [getattr(statement, field, []) for field in ("body", "orelse", "finalbody")]
    return [*inner, *(handler.body for handler in getattr(statement, "handlers", []))]


def _is_idle_without(parent: ast.Try | ast.If | ast.With, names: Collection[str]) -> bool:
    """Whether there is nothing left to do for a `try` that stands in for these names, or for an `if`."""
    if isinstance(parent, ast.If):
        return not parent.orelse
    if isinstance(parent, ast.With) or parent.orelse or parent.finalbody:
        return False
    return all(_is_fallback(each, names) for handler in parent.handlers for each in handler.body)


def _is_fallback(statement: ast.stmt, names: Collection[str]) -> bool:
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id in names for target in statement.targets)
    return isinstance(statement, (ast.Pass, ast.Expr))


def _merged(changes: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Deletions that overlap are one; insertions at one place keep their order."""
    merged: list[tuple[int, int, str]] = []
    for start, end, text in sorted(changes, key=lambda change: change[:2]):
        if merged and (start < merged[-1][1] or start == end == merged[-1][0] == merged[-1][1]):
            known = merged.pop()
            start, end, text = known[0], max(end, known[1]), known[2] + text
        merged.append((start, end, text))
    return merged
