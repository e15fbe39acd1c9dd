"""Which values are secrets: by the names of their keys, and by what they look like."""

from __future__ import annotations

import re

__all__ = ["is_secret", "shown"]

_WORDS = "API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS?|DSN|WEBHOOK"
_ENDS = re.compile(rf"(?:^|.*_)(?:{_WORDS})", re.IGNORECASE)
_HAS = re.compile(rf"(?:^|.*_)(?:{_WORDS})_.*", re.IGNORECASE)
_PLAIN = re.compile(r"[+-]?[\d.]+[a-z]{0,3}|true|false|yes|no|on|off|none|HS\d+|RS\d+", re.IGNORECASE)
_LOOKS = re.compile(
    r"""
    eyJ[\w-]+\.eyJ[\w-]*                                   # a JWT
    | (?<![\w-])(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|sbp|sb_secret)[-_][\w-]{8}
    | AKIA[0-9A-Z]{12} | AIza[\w-]{20}
    | -----BEGIN
    | ://[^/\s@]*:[^/\s]+@                                  # a URL with a password
    | [?&;](?:\w*_)?(?:password|pwd|token|secret|key|sig|signature)=[^&\s]
    | (?i:password|pwd)\s*=\s*\S                            # a connection string
    | (?<![0-9A-Za-z])[0-9a-f]{32}\.[0-9A-Za-z]{12}         # a key of GLM
    """,
    re.VERBOSE,
)
_RANDOM = re.compile(r"(?=[^\W_]*\d)(?=[^\W_]*[A-Za-z])[A-Za-z0-9+=]{32,}")


def is_secret(key: str, value: str) -> bool:
    """Whether the value must not be seen. In doubt it must not."""
    if _ENDS.fullmatch(key) or _LOOKS.search(value) or _RANDOM.search(value):
        return True
    return bool(_HAS.fullmatch(key)) and bool(value) and not _PLAIN.fullmatch(value)


def shown(key: str, value: str | None) -> str:
    """A value for people: of a secret only whether it is set."""
    if value is None:
        return "not set"
    if not value:
        return "empty"
    return "set" if is_secret(key, value) else value
