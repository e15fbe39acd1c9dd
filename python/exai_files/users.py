"""On whose behalf things are done, and what they may have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Actor", "UserQuota", "actor_of", "json_of"]


@dataclass(frozen=True)
class Actor:
    """Who calls. The audit log has pseudonyms of user, session and address.

    Attributes:
        user: Their id.
        roles: What they are, for people who read the log.
        session: Of a web application or the like.
        address: Where the request came from, such as an IP address.

    Example:
        >>> exai_files.Actor("alice", roles=["editor"], address="203.0.113.7").user
        'alice'
    """

    user: str
    roles: Sequence[str] = ()
    session: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class UserQuota:
    """What a user has on the platforms and may have; None is no limit.

    Attributes:
        files: Contents of theirs that are on a platform, or on their way to one.
        bytes: Of those.
        max_file_bytes: The largest file they may upload.
    """

    user: str
    files: int
    bytes: int
    max_files: int | None
    max_bytes: int | None
    max_file_bytes: int | None


def actor_of(data: Mapping[str, Any]) -> Actor:
    """From what the core gives."""
    return Actor(**{**data, "roles": tuple(data["roles"])})


def json_of(actor: Actor | str) -> str:
    """As the core takes it."""
    if isinstance(actor, str):
        actor = Actor(actor)
    return json.dumps({**vars(actor), "roles": list(actor.roles)})
