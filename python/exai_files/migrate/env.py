"""Brings several environment files into one, and what exai-files has settings for into its configuration file.

Before is what a process has that loads the files in their order, each over those before; after, what it has that loads
the new file. A key goes only where every place that reads it gets the same after as before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from exai_files.errors import ConfigError, InvalidRequestError
from exai_files.migrate import env_file
from exai_files.migrate.env_code import OURS, Code, Read, scan
from exai_files.migrate.env_file import Assignment, EnvFile
from exai_files.migrate.env_fixes import ALIASES, Fix, mended
from exai_files.migrate.env_layout import environment
from exai_files.migrate.env_secrets import is_secret, shown
from exai_files.migrate.env_settings import Move, moves, toml

__all__ = ["Conflict", "Difference", "KeyReport", "Migration", "migrate"]

MOST_LINES = 200
"""A file should have fewer."""

_PACKAGE = re.compile(
    r"EXAI_FILES_\w+|EXAI_ENV|EXAI_DATABASE_URL|(?:MOONSHOT|KIMI|ZAI|GLM|ZHIPUAI)_API_KEY(?:_\w+)?|KIMI(?:_CODE)?_OAUTH_HOST"
    r"|JWT_(?:SECRET|SECRET_KEY|ISSUER|AUDIENCE)|SUPABASE_(?:JWT_SECRET|DB_URL)|REDIS_URL|AWS_(?:SECRET_)?ACCESS_KEY(?:_ID)?"
    r"|(?:KIMI|MOONSHOT|ZAI|ZHIPUAI)_BASE_URL|GLM_API_URL"
)
_OUTSIDE = re.compile(
    r"PYTHON\w+|(?:HTTPS?|ALL|NO)_PROXY|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|OPENAI_\w+|COMPOSE_\w+"
    r"|DOCKER_\w+|PG[A-Z]+|PROMETHEUS_MULTIPROC_DIR|PATH|HOME|USER|TZ|LANG|LC_\w+|TMPDIR|TEMP|TMP|NO_COLOR|XDG_\w+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Conflict:
    """Files that give a key different values.

    Attributes:
        winner: File, line and value; of a secret only that there is one. Likewise the `losers`.
    """

    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True)
class KeyReport:
    """What becomes of one key.

    Attributes:
        verdict: In the new environment file, in the configuration file alone, or in neither.
        value: As it is in the old files; of a secret only that it is set.
        place: File and line that it comes from; None for a key that only a fix gives a value.
        settings: What it is in the configuration file.
        fix: What is another value than before, and why.
    """

    key: str
    verdict: Literal["kept", "moved", "dropped"]
    value: str
    place: str | None
    why: str
    settings: tuple[str, ...] = ()
    conflict: Conflict | None = None
    fix: str | None = None


@dataclass(frozen=True)
class Difference:
    """A place that gets something else than before."""

    key: str
    place: str
    before: str
    after: str


@dataclass(frozen=True)
class Migration:
    """What is to be done, and why.

    Attributes:
        environment: Text of the new environment file; it holds secrets. `settings` is the configuration file.
        places: Places that read a key of the files.
    """

    keys: tuple[KeyReport, ...]
    warnings: tuple[str, ...]
    environment: str = field(repr=False)
    settings: str = field(repr=False)
    places: int
    _mended: Mapping[str, str] = field(repr=False)
    _before: Mapping[str, str] = field(repr=False)
    _code: Code = field(repr=False)

    def count(self, verdict: str) -> int:
        return sum(each.verdict == verdict for each in self.keys)

    def differences(self, after: Mapping[str, str]) -> list[Difference]:
        """The places that get something else than before, other than by a listed fix."""
        before = self._mended
        changed = [key for key in self._code.reads if before.get(key) != after.get(key)]
        found = [
            (key, read)
            for key in changed
            for read in self._code.reads[key]
            if not _is_same(read, before, after) and not _is_same(read, self._before, after)
        ]
        guilty = {key for key, read in found if not _is_same(read, before, _with(before, {key: after.get(key)}))}
        # With these as before, whatever still differs does so by several keys together.
        mended = _with(after, {key: before.get(key) for key in guilty})
        told = [(key, read) for key, read in found if key in guilty or not _is_same(read, before, mended)]
        return sorted({_difference(key, read.place, before.get(key), after.get(key)) for key, read in told}, key=str)


def _with(values: Mapping[str, str], others: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**values, **others}.items() if value is not None}


def migrate(
    files: Sequence[Path],
    code: Sequence[Path],
    *,
    prefer: Path | None = None,
    output: Path | None = None,
    settings: Path | None = None,
    now: datetime | None = None,
) -> Migration:
    """Plans it, and changes nothing.

    Args:
        files: The environment files, in the order in which they are loaded: the last one wins.
        code: Files and trees that read the environment.
        prefer: The file that wins instead.
        output: The new environment file, if it is there: its keys are looked for in the code, too.
        settings: The new configuration file: no code.
        now: Where periods of grace begin.

    Raises:
        SourceNotFoundError: A file or a tree is not there.
        InvalidRequestError: A file cannot be read, or is named twice.
        ConfigError: A value cannot be written into an environment file.
    """
    loaded = [env_file.read(path) for path in _ordered(files, prefer)]
    plan = _Plan(loaded, prefer)
    extra = env_file.read(output) if output and output.exists() else None
    keys = {each.key for file in (*loaded, *([extra] if extra else [])) for each in file.assignments}
    keys |= {ALIASES[key] for key in keys & ALIASES.keys()}
    without = [*files, *([output] if output else []), *([settings] if settings else [])]
    return plan.made(_scanned(code, keys, without), now or datetime.now(timezone.utc))


def _ordered(files: Sequence[Path], prefer: Path | None) -> list[Path]:
    seen = [path.absolute() for path in files]
    if twice := [path for path in files if seen.count(path.absolute()) > 1]:
        raise InvalidRequestError(f"{twice[0]} is named twice", hint="name each file once, in the order of loading")
    if prefer is None:
        return list(files)
    if prefer.absolute() not in seen:
        raise InvalidRequestError(f"{prefer} is to be preferred, and is none of the files", hint="name it among them")
    return [*(path for path in files if path.absolute() != prefer.absolute()), prefer]


def _scanned(code: Sequence[Path], keys: set[str], without: Sequence[Path]) -> Code:
    """With what the drop-in modules read, which are to take the place of the tool's own."""
    own = Path(__file__).parent.parent / "dropin"
    roots = [(path, "") for path in code] + ([(own, f"{OURS}dropin/")] if own.is_dir() else [])
    return scan(roots, keys, without)


class _Plan:
    def __init__(self, files: Sequence[EnvFile], prefer: Path | None) -> None:
        self._files, self._prefer = files, prefer
        self._stages = [env_file.load(files[: number + 1]) for number in range(len(files))]
        self._before = self._stages[-1] if self._stages else {}
        self._secrets: set[str] = set()

    def made(self, code: Code, now: datetime) -> Migration:
        before = self._before
        values, fixes = mended(before, code)
        moved = moves(values, now)
        after, reasons = _without_needless(values, code, moved)
        self._secrets = _secrets({**before, **values})
        keys = [self._report(key, after, reasons, moved, fixes, code) for key in sorted({*before, *values})]
        files = [file.path.name for file in self._files]
        text = environment(after, self._secrets, files)
        _verify(text, after)
        warnings = [*self._warnings(), *code.warnings]
        if (lines := text.count("\n")) >= MOST_LINES:
            warnings.append(f"the new file has {lines} lines: so many keys have other values than the code's own")
        places = len({(key, each.place) for key in before for each in code.readers(key)})
        return Migration(tuple(keys), tuple(warnings), text, toml(moved), places, values, before, code)

    # ===== what there is to say =====

    def _report(
        self,
        key: str,
        after: Mapping[str, str],
        reasons: Mapping[str, str],
        moved: Mapping[str, Move],
        fixes: Mapping[str, Fix],
        code: Code,
    ) -> KeyReport:
        move = moved.get(key)
        settings = tuple(path for path, _ in move.settings) if move else ()
        why = _kept_because(key, code) if key in after else reasons.get(key, "")
        notes = [each for each in (why, move.note if move else "", *self._duplicates(key)) if each]
        return KeyReport(
            key,
            "kept" if key in after else "moved" if settings else "dropped",
            self._shown(key, self._before.get(key)),
            self._place(key),
            "; ".join(notes),
            settings,
            self._conflict(key),
            fixes[key].said(self._secrets) if key in fixes else None,
        )

    def _shown(self, key: str, value: str | None) -> str:
        return "set" if value and key in self._secrets else shown(key, value)

    def _assignments(self, key: str, file: EnvFile) -> list[Assignment]:
        return [each for each in file.assignments if each.key == key and each.value is not None]

    def _place(self, key: str) -> str | None:
        places = [(file, found[-1].line) for file in self._files if (found := self._assignments(key, file))]
        return f"{places[-1][0].path}:{places[-1][1]}" if places else None

    def _conflict(self, key: str) -> Conflict | None:
        given = [
            (stage[key], f"{file.path}:{found[-1].line} ({self._shown(key, stage[key])})")
            for file, stage in zip(self._files, self._stages, strict=True)
            if (found := self._assignments(key, file))
        ]
        losers = tuple(text for value, text in given if value != given[-1][0])
        why = "preferred" if self._prefer else "named last"
        return Conflict(f"{given[-1][1]}, {why}", losers) if losers else None

    def _duplicates(self, key: str) -> list[str]:
        found = {file.path: self._assignments(key, file) for file in self._files}
        return [
            f"{path} has it on lines {', '.join(str(each.line) for each in several)}, of which the last counts"
            for path, several in found.items()
            if len(several) > 1
        ]

    def _warnings(self) -> list[str]:
        said = []
        for file in self._files:
            said += [f"{file.path}:{line}: this is no assignment, and is passed over" for line in file.malformed]
            for each in file.assignments:
                if each.value is None:
                    said.append(f"{file.path}:{each.line}: {each.key} has no =, and sets nothing")
                elif each.is_disputed:
                    said.append(f"{file.path}:{each.line}: {each.key} is read otherwise by python-dotenv before 1.2.4")
        return said


def _secrets(values: Mapping[str, str]) -> set[str]:
    """The keys of secrets, and of values that have a secret in them."""
    found = {key for key, value in values.items() if is_secret(key, value)}
    texts = [values[key] for key in found if len(values[key]) >= 8]
    return found | {key for key, value in values.items() if any(text in value for text in texts)}


# ===== what goes =====


def _without_needless(
    values: Mapping[str, str], code: Code, moved: Mapping[str, Move]
) -> tuple[dict[str, str], dict[str, str]]:
    """What has to stay; and of everything else, why not."""
    after, reasons = dict(values), {}
    for key in values:
        trial = _with(after, {key: None})
        readers = code.readers(key)
        if _is_read_elsewhere(key) and not (key in moved and not moved[key].is_refused):
            continue
        is_secret_in_use = bool(readers) and is_secret(key, values[key])
        if not is_secret_in_use and all(_is_same(each, values, trial) for each in readers):
            after = trial
            reasons[key] = f"what {_places(readers)} gets without it" if readers else "read nowhere"
    return after, reasons


def _is_same(read: Read, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    before, after = read.outcomes(one, other)
    return type(before) is type(after) and before == after


def _is_read_elsewhere(key: str) -> bool:
    """By exai-files itself, or by what is no part of the code."""
    return bool(_PACKAGE.fullmatch(key) or _OUTSIDE.fullmatch(key))


def _kept_because(key: str, code: Code) -> str:
    if readers := code.readers(key):
        return f"read in {_places(readers)}"
    return "read by exai-files" if _PACKAGE.fullmatch(key) else "read by Python, a library or Docker"


def _places(readers: Sequence[Read]) -> str:
    places = list(dict.fromkeys(each.place for each in readers))
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"


def _difference(key: str, place: str, before: str | None, after: str | None) -> Difference:
    said = [shown(key, each) for each in (before, after)]
    if is_secret(key, before or "") or is_secret(key, after or ""):
        said = ["set" if each else shown(key, each) for each in (before, after)]
    if said[0] == said[1]:
        said[1] = "another" if before != after else said[1]
    return Difference(key, place, said[0], said[1])


def _verify(text: str, values: Mapping[str, str]) -> None:
    """What is written is what will be read."""
    written = env_file.load([env_file.of(text)])
    for key in sorted(values.keys() | written.keys()):
        if values.get(key) != written.get(key):
            raise ConfigError(f"{key}: there is no way to write its value", hint="make it shorter or simpler")
