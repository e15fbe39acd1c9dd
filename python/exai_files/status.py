"""How everything is, in one look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from exai_files.calls import Call, Calls
from exai_files.records import instant, perhaps
from exai_files.sizes import in_units

__all__ = ["AccountStatus", "Status"]


@dataclass(frozen=True)
class AccountStatus:
    """One account of a platform, as far as the registry knows.

    Attributes:
        bytes: Of all its files.
        most_files: What its platform publishes or the configuration says; likewise `most_bytes`.
        days_to_full: At the pace of the last seven days; None where it does not fill, or nothing is published.
        expiring_in_a_day: Files that the platform drops by then; likewise `expiring_in_a_week`.
        open_breakers: Operations that are left in peace now.
    """

    platform: str
    account: str
    files: int
    bytes: int
    most_files: int | None
    most_bytes: int | None
    days_to_full: float | None
    expiring_in_a_day: int
    expiring_in_a_week: int
    open_breakers: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """Everything, at one time.

    Attributes:
        unfinished: Uploads and deletes that were cut short; `given_up` of them wait for you.
        leases: In force.
        audit_records: In the audit log; `unsigned_records` of them came after the last checkpoint.
    """

    at: datetime
    accounts: tuple[AccountStatus, ...]
    unfinished: int
    given_up: int
    leases: int
    audit_records: int
    last_checkpoint_at: datetime | None
    unsigned_records: int

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Status:
        accounts = tuple(
            AccountStatus(**{**each, "open_breakers": tuple(each["open_breakers"])}) for each in data["accounts"]
        )
        times = {"at": instant(data["at"]), "last_checkpoint_at": perhaps(data["last_checkpoint_at"])}
        return cls(**{**data, **times, "accounts": accounts})

    def rows(self) -> list[tuple[str, ...]]:
        """The accounts as a table of texts: `HEADER` names its columns."""
        return [_row(account) for account in self.accounts]

    def remarks(self) -> list[str]:
        """What else there is to say, a sentence each."""
        signed = f"the last signed at {self.last_checkpoint_at}" if self.last_checkpoint_at else "none of them signed"
        said = [f"{self.audit_records} audit records, {signed}; {self.unsigned_records} since"]
        if self.unfinished:
            said.append(f"{self.unfinished} uploads and deletes are unfinished, {self.given_up} of them given up")
        if self.leases:
            said.append(f"{self.leases} leases are in force")
        return said

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name.lower())}</th>" for name in HEADER)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows())
        said = "".join(f"<li>{escape(remark)}</li>" for remark in self.remarks())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{said}</ul>"


HEADER = ("PLATFORM", "ACCOUNT", "FILES", "SIZE", "DAYS TO FULL", "EXPIRE IN 24 H", "IN 7 DAYS", "LEFT IN PEACE")


def _row(account: AccountStatus) -> tuple[str, ...]:
    files = f"{account.files}" + ("" if account.most_files is None else f" of {account.most_files}")
    size = in_units(account.bytes) + ("" if account.most_bytes is None else f" of {in_units(account.most_bytes)}")
    days = "-" if account.days_to_full is None else f"{account.days_to_full:.0f}"
    expiring = (str(account.expiring_in_a_day), str(account.expiring_in_a_week))
    return (account.platform, account.account, files, size, days, *expiring, ", ".join(account.open_breakers) or "-")


def asked(calls: Calls) -> Call[Status]:
    """Asks the registry."""
    return Call(calls.core.status(), Status._from_core)
