"""Values that are not taken over as they are, because the code cannot work with them: the listed fixes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from exai_files.migrate.env_code import Code
from exai_files.migrate.env_evaluator import Raised
from exai_files.migrate.env_secrets import shown

__all__ = ["ALIASES", "Fix", "mended"]

ALIASES = {
    "MOONSHOT_API_KEY": "KIMI_API_KEY",
    "ZAI_API_KEY": "GLM_API_KEY",
    "SUPABASE_SERVICE_KEY": "SUPABASE_SERVICE_ROLE_KEY",
    "JWT_SECRET": "JWT_SECRET_KEY",
}
"""Names that documents use, and those that the code reads."""

_WORKFLOW = "WORKFLOW_TOOL_TIMEOUT_SECS"


@dataclass(frozen=True)
class Fix:
    """Another value for a key; `after` is None where the default in the code takes its place."""

    key: str
    after: str | None = field(repr=False)
    why: str

    def said(self, secrets: Collection[str]) -> str:
        """For people."""
        after = "set" if self.after and self.key in secrets else shown(self.key, self.after)
        return f"{after} from now on: {self.why}"


def mended(values: Mapping[str, str], code: Code) -> tuple[dict[str, str], dict[str, Fix]]:
    """The values with every fix, and the fixes by key."""
    fixes = [*_aliases(values, code), *_malformed(values, code), *_truncated(values, code)]
    result = {**values, **{fix.key: fix.after for fix in fixes if fix.after is not None}}
    gone = {fix.key for fix in fixes if fix.after is None}
    return {key: value for key, value in result.items() if key not in gone}, {fix.key: fix for fix in fixes}


def _aliases(values: Mapping[str, str], code: Code) -> list[Fix]:
    fixes = []
    for alias, name in ALIASES.items():
        if values.get(alias) and not values.get(name) and code.tool_readers(name):
            fixes.append(Fix(name, values[alias], f"the value of {alias}, a name that documents use for it"))
        if values.get(alias) and code.tool_readers(name) and not code.tool_readers(alias):
            other = ", which has another value" if values.get(name) not in ("", None, values[alias]) else ""
            fixes.append(Fix(alias, None, f"the code reads {name}{other}"))
    return fixes


def _malformed(values: Mapping[str, str], code: Code) -> list[Fix]:
    fixes = []
    for key, value in values.items():
        if _raises(key, values, code):
            for after in [value.partition("#")[0].strip() or None, None]:
                trial = (
                    {**values, key: after or ""} if after else {each: values[each] for each in values if each != key}
                )
                if after != value and not _raises(key, trial, code):
                    fixes.append(Fix(key, after, f"{_raises(key, values, code)} cannot read the old value"))
                    break
    return fixes


def _raises(key: str, values: Mapping[str, str], code: Code) -> str | None:
    """The first place that cannot work with it."""
    reads = code.readers(key)
    return next((each.place for each in reads if isinstance(each.outcomes(values)[0], Raised)), None)


def _truncated(values: Mapping[str, str], code: Code) -> list[Fix]:
    """The daemon cuts 1.5 times the value to whole seconds, and then refuses to start if that is less than 1.5 times."""
    text = values.get(_WORKFLOW, "")
    if not text.isdecimal() or int(text) % 2 == 0 or not code.tool_readers(_WORKFLOW):
        return []
    why = "one and a half times as much has to be whole seconds, or the daemon does not start"
    return [Fix(_WORKFLOW, str(int(text) + 1), why)]
