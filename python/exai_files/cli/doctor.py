"""`doctor`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json
from exai_files.errors import AuthenticationError, Error

if TYPE_CHECKING:
    from exai_files.client import Client

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: Literal["ok", "off", "wrong"]
    what: str
    detail: str
    is_key: bool = False


@cli.command()
@click.option("--online", is_flag=True, help="Ask each connected platform for its list of files, too.")
@as_json
@click.pass_obj
def doctor(session: Session, online: bool, as_json: bool) -> int:
    """Look at the configuration, the registry, keys and the network, and say what is wrong.

    Nothing is changed, and no key or password is shown. The exit code is 6 when only keys are wrong, and 1 when
    anything else is.
    """
    with session.client(recovers=False) as client:
        found = [*_configuration(client), _registry(client), *_keys(client), *_network(client)]
        if online:
            found += _platforms(client)
    if as_json:
        for finding in found:
            output.print_json({"state": finding.state, "what": finding.what, "detail": finding.detail})
    else:
        output.table([(f.state, f.what, f.detail) for f in found], ("STATE", "WHAT", "DETAIL"))
    wrong = [finding for finding in found if finding.state == "wrong"]
    return 0 if not wrong else 6 if all(finding.is_key for finding in wrong) else 1


def _configuration(client: Client) -> Iterator[Finding]:
    settings = client.settings()
    files = {setting.origin.rpartition(":")[0] for setting in settings if setting.origin.rpartition(":")[2].isdecimal()}
    yield Finding("ok", "configuration", ", ".join(sorted(files)) or "no file; defaults, the environment and the call")
    for setting in settings:
        if setting.path.endswith("allow_private_addresses") and setting.value:
            yield Finding("ok", setting.path, f"files and keys may go into the own network ({setting.origin})")


def _registry(client: Client) -> Finding:
    status = client.status()
    unfinished = f", {status.unfinished} unfinished" if status.unfinished else ""
    return Finding("ok", "registry", f"{status.audit_records} audit records{unfinished}")


def _keys(client: Client) -> Iterator[Finding]:
    for status in client.auth.status():
        what = f"key of {status.platform}" + (f" ({status.account})" if status.account else "")
        if status.problem is None:
            yield Finding("ok", what, f"{status.source}, {status.fingerprint or 'not asked'}", is_key=True)
        else:
            yield Finding("wrong" if status.source else "off", what, status.problem, is_key=True)


def _network(client: Client) -> Iterator[Finding]:
    set_to = {setting.path: setting.value for setting in client.settings()}
    yield Finding("ok", "TLS", f"1.2 and 1.3; authorities: the system's{_besides(set_to.get('http.ca_bundle'))}")
    variable = next((name for name in PROXIES if os.environ.get(name)), None)
    if proxy := set_to.get("http.proxy"):
        yield Finding("ok", "proxy", f"{_host(proxy)} (http.proxy)")
    elif variable:
        yield Finding("ok", "proxy", f"{_host(os.environ[variable])} ({variable})")
    else:
        yield Finding("off", "proxy", "none")


def _besides(bundle: object) -> str:
    return f" and those in {bundle}" if bundle else ""


def _host(url: str) -> str:
    """Without user and password."""
    from urllib.parse import urlsplit  # start-up counts

    parts = urlsplit(url if "://" in url else f"//{url}")
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _platforms(client: Client) -> Iterator[Finding]:
    for platform in sorted({status.platform for status in client.auth.status() if status.source}):
        begun = time.monotonic()
        try:
            files = client.list_remote(platform, timeout=30)
        except Error as error:
            yield Finding("wrong", platform, str(error), is_key=isinstance(error, AuthenticationError))
        else:
            yield Finding("ok", platform, f"lists {len(files)} files, in {time.monotonic() - begun:.2f} s")
