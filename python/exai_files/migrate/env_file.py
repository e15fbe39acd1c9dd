"""Environment files, read and written as python-dotenv does it, with the line of every value."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exai_files.errors import InvalidRequestError, SourceNotFoundError

__all__ = ["Assignment", "EnvFile", "assignment", "load", "of", "parse", "read"]

_NEWLINE = re.compile(r"\r\n|\n|\r")
_BLANK = re.compile(r"\s*")
_SPACE = re.compile(r"[^\S\r\n]*")
_EXPORT = re.compile(r"(?:export[^\S\r\n]+)?")
_KEY = re.compile(r"([^=#\s]+)")
_QUOTED_KEY = re.compile(r"'([^']+)'")
_EQUALS = re.compile(r"=([^\S\r\n]*)")
_SINGLE_QUOTED = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_UNQUOTED = re.compile(r"[^\r\n]*")
_COMMENT = re.compile(r"(?:[^\S\r\n]*#[^\r\n]*)?")
_END = re.compile(r"[^\S\r\n]*(?:\r\n|\n|\r|$)")
_REST = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)?")
_REFERENCE = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True)
class Assignment:
    """One key as a file has it.

    Attributes:
        value: None for a key without `=`, which sets nothing.
        line: Of the key, from 1.
        is_disputed: Versions of python-dotenv before 1.2.4 take the comment for the value, or a byte order mark for a
            part of the key.
    """

    key: str
    value: str | None = field(repr=False)
    line: int
    is_disputed: bool = False


@dataclass(frozen=True)
class EnvFile:
    """One file.

    Attributes:
        malformed: Lines that are no assignment; python-dotenv passes over them.
    """

    path: Path
    assignments: tuple[Assignment, ...]
    malformed: tuple[int, ...]


def read(path: Path) -> EnvFile:
    """Reads a file.

    Raises:
        SourceNotFoundError: There is none.
        InvalidRequestError: It is not UTF-8, or no process could have what it sets.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        cls = SourceNotFoundError if isinstance(error, FileNotFoundError) else InvalidRequestError
        raise cls(f"{path}: {error.strerror}", hint="name an environment file") from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequestError(f"{path}:{line}: this is not UTF-8", hint="save the file as UTF-8") from None
    file = of(text, path)
    for each in file.assignments:
        if "\0" in f"{each.key}{each.value}":
            raise InvalidRequestError(
                f"{path}:{each.line}: there is a NUL, which no process can have in its environment"
            )
    return file


def of(text: str, path: Path = Path()) -> EnvFile:
    """A file with that text."""
    assignments, malformed = parse(_NEWLINE.sub("\n", text))
    return EnvFile(path, tuple(assignments), tuple(malformed))


def parse(text: str) -> tuple[list[Assignment], list[int]]:
    """The assignments of a text, and the lines of what is none."""
    assignments: list[Assignment] = []
    malformed: list[int] = []
    reader = _Reader(text.removeprefix("\ufeff"))
    has_mark = text.startswith("\ufeff")
    while reader.begin():
        try:
            key, value, is_comment = _statement(reader)
        except _Malformed:
            malformed.append(reader.line)
            reader.take(_REST)
        else:
            if key is not None:
                is_marked = has_mark and reader.line == 1
                assignments.append(Assignment(key, value, reader.line, is_comment or is_marked))
    return assignments, malformed


class _Malformed(Exception):
    pass


class _Reader:
    """Where in a text the reading is. What was read before a fault stays read, as in python-dotenv."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.line, self._counted = 1, 0

    def begin(self) -> bool:
        """Goes to the next statement; False where there is none."""
        self.take(_BLANK)
        self.line += len(_NEWLINE.findall(self._text, self._counted, self._at))
        self._counted = self._at
        return self._at < len(self._text)

    def next(self) -> str:
        return self._text[self._at : self._at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _Malformed
        self._at = match.end()
        return match[match.lastindex or 0]


def _statement(reader: _Reader) -> tuple[str | None, str | None, bool]:
    """Key and value, and whether a comment is all the value; a comment alone has no key."""
    reader.take(_EXPORT)
    key = value = None
    is_comment = False
    if reader.next() != "#":
        key = reader.take(_QUOTED_KEY if reader.next() == "'" else _KEY)
    reader.take(_SPACE)
    if reader.next() == "=":
        is_comment = bool(reader.take(_EQUALS)) and reader.next() == "#"
        value = "" if is_comment else _value(reader)
    reader.take(_COMMENT)
    reader.take(_END)
    return key, value, is_comment


def _value(reader: _Reader) -> str:
    match reader.next():
        case "'":
            return _unescaped(r"\\[\\']", reader.take(_SINGLE_QUOTED))
        case '"':
            return _unescaped(r"\\[\\'\"abfnrtv]", reader.take(_DOUBLE_QUOTED))
        case _:
            return re.sub(r"\s+#.*", "", reader.take(_UNQUOTED)).rstrip()


def _unescaped(escapes: str, text: str) -> str:
    return re.sub(escapes, lambda match: codecs.decode(match[0], "unicode-escape"), text)


# ===== values =====


def load(files: Iterable[EnvFile]) -> dict[str, str]:
    """What a process has that loads the files one over the other.

    `${NAME}` stays where no file has set NAME before: then it is up to the process.
    """
    values: dict[str, str] = {}
    for file in files:
        known: dict[str, str | None] = dict(values)
        for each in file.assignments:
            known[each.key] = None if each.value is None else resolved(each.value, known)
        values.update((key, value) for key, value in known.items() if value is not None)
    return values


def resolved(value: str, known: Mapping[str, str | None]) -> str:
    """With what `${NAME}` stands for."""
    return _REFERENCE.sub(lambda match: (known[match["name"]] or "") if match["name"] in known else match[0], value)


def references(value: str) -> Iterator[str]:
    """The names in it that are up to the process."""
    return (match["name"] for match in _REFERENCE.finditer(value))


# ===== writing =====


def assignment(key: str, value: str) -> str:
    """The line that gives a key a value; quoted only where it has to be."""
    name = key if re.fullmatch(r"[^\s=#'][^\s=#]*", key) else f"'{key}'"
    if not re.search(r"[\r\n]|\s#|^[\s#'\"]|\s$", value):
        return f"{name}={value}"
    if "\r" in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'{name}="{escaped}"'
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'"
