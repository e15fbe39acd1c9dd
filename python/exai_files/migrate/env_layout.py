"""The new environment file: secrets first, then the rest by what it is about."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from exai_files.migrate.env_file import assignment, references

__all__ = ["environment"]

_HEAD = """\
# Environment of the EXAI tool, made by `exai-files migrate env` from {files}.
# What is not here has its default in the code, or is a setting in exai-files.toml.
"""

_PROCESS = "Made from the process that loads this file"
_SECRETS = "Secrets: keep this file out of version control"
_GROUPS = (
    ("Supabase and PostgreSQL", r"SUPABASE_.*|EXAI_DATABASE_.*|PG.*"),
    ("Redis and conversations", r"REDIS_.*|CONVERSATION_.*|MESSAGE_.*|USE_MESSAGE_.*|ENABLE_FALLBACK"),
    ("Kimi (Moonshot)", r"KIMI_.*|MOONSHOT_.*"),
    ("GLM (Z.ai)", r"GLM_.*|ZAI_.*|ZHIPUAI_.*"),
    ("Time-outs", r".*_TIMEOUT(?:_SECS|_SECONDS)?"),
    ("Files", r".*FILE.*|.*UPLOAD.*|DEDUPLICATION_.*|PREFERRED_PROVIDER"),
    ("Sign-in", r"JWT_.*|AUTH_.*"),
    ("Web socket, connections and sessions", r"EXAI_WS_.*|EXAI_.*|MAX_CONNECTIONS.*|SESSION_.*|RATE_LIMIT_.*"),
    ("Circuit breakers", r"CIRCUIT_BREAKER_.*|FALLBACK_.*"),
    ("Monitoring and logs", r"METRICS_.*|MONITORING_.*|HEALTH_.*|LOG_.*|DIAGNOSTICS|.*_LOGGING|AUDIT_.*"),
    ("Expert analysis", r"EXPERT_.*|DEFAULT_USE_ASSISTANT_MODEL"),
    ("Models and tokens", r".*MODEL.*|.*TOKEN.*|THINKING_.*"),
    ("Paths and inputs", r"EX_.*|SECURE_.*|STRICT_.*|TEST_.*"),
)
_REST = "Everything else"


def environment(values: Mapping[str, str], secrets: Collection[str], files: Sequence[str]) -> str:
    """The text of the file."""
    groups: dict[str, list[str]] = {title: [] for title in (_PROCESS, _SECRETS, *(each for each, _ in _GROUPS), _REST)}
    for key in sorted(values):
        groups[_group(key, values[key], secrets)].append(assignment(key, values[key]))
    blocks = ("\n".join([f"\n# {title}", *lines, ""]) for title, lines in groups.items() if lines)
    return _HEAD.format(files=", ".join(files)) + "".join(blocks)


def _group(key: str, value: str, secrets: Collection[str]) -> str:
    if any(references(value)):
        return _PROCESS  # before anything that could be meant by `${NAME}` now
    if key in secrets:
        return _SECRETS
    return next((title for title, pattern in _GROUPS if re.fullmatch(pattern, key)), _REST)
