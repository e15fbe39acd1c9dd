"""Platforms: what they can do, and which are left in peace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.health import BreakerMode


@cli.group()
def platforms() -> None:
    """What platforms can do, and what the accounts hold."""


@platforms.command("ls")
@as_json
@click.pass_obj
def platforms_ls(session: Session, as_json: bool) -> None:
    """List the connected platforms."""
    with session.client() as client:
        infos = client.platforms()
    if not infos and not session.quiet:
        click.echo("exai-files: no platform is connected; set MOONSHOT_API_KEY or ZAI_API_KEY", err=True)
    if as_json:
        for info in infos:
            output.print_json(info)
        return
    rows = [
        (
            info.platform,
            info.account,
            str(info.capabilities["base_url"]),
            f"{info.files} files",
            in_units(info.bytes),
        )
        for info in infos
    ]
    output.table(rows, ("PLATFORM", "ACCOUNT", "BASE URL", "FILES", "SIZE"))


@platforms.command("info")
@click.argument("platform")
@as_json
@click.pass_obj
def platforms_info(session: Session, platform: str, as_json: bool) -> None:
    """Show what one platform can do, with the source and date of each fact. Needs no key."""
    with session.client() as client:
        capabilities = client.capabilities(platform)
    if as_json:
        output.print_json(capabilities)
    else:
        _print_tree(capabilities)


def _print_tree(value: Any, depth: int = 0, name: str = "") -> None:  # noqa: ANN401  (JSON)
    indent = "  " * depth
    if isinstance(value, dict) and set(value) == {"value", "source", "as_of"}:
        click.echo(
            f"{indent}{name}: {json.dumps(value['value'], ensure_ascii=False)}  [{value['source']}, {value['as_of']}]"
        )
    elif isinstance(value, dict):
        if name:
            click.echo(f"{indent}{name}:")
        for key, item in value.items():
            _print_tree(item, depth + bool(name), key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        click.echo(f"{indent}{name}:")
        for item in value:
            heading = str(item.get("wire", item.get("tier", "-")))
            _print_tree(item, depth + 1, heading)
    else:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{indent}{name}: {shown}")


# ===== circuit breakers =====


@cli.group()
def breaker() -> None:
    """Which platforms are left in peace after failures, and for how long."""


one_operation = click.option(
    "--operation",
    type=click.Choice(["upload", "list", "get", "content", "delete"]),
    help="Which operation. Default: all.",
)


@breaker.command("ls")
@as_json
@click.pass_obj
def breaker_ls(session: Session, as_json: bool) -> None:
    """Show every circuit breaker."""
    with session.client() as client:
        health = client.health()
    if as_json:
        for platform in health:
            output.print_json(platform)
        return
    rows = [
        (
            platform.platform,
            breaker.operation,
            breaker.state,
            f"{breaker.failures} of {breaker.calls} failed",
            f"until {breaker.open_until:%H:%M:%S}Z" if breaker.open_until else "-",
        )
        for platform in health
        for breaker in platform.breakers
    ]
    output.table(rows, ("PLATFORM", "OPERATION", "STATE", "LATELY", "OPEN"))


@breaker.command("set")
@click.argument("platform")
@click.argument("mode", type=click.Choice(["automatic", "forced-open", "disabled", "metrics-only"]))
@one_operation
@click.pass_obj
def breaker_set(session: Session, platform: str, mode: BreakerMode, operation: str | None) -> None:
    """Force a breaker open, or switch it off, until it is reset."""
    with session.client() as client:
        client.set_breaker(platform, mode, operation=operation)


@breaker.command("reset")
@click.argument("platform")
@one_operation
@click.pass_obj
def breaker_reset(session: Session, platform: str, operation: str | None) -> None:
    """Close a breaker and forget what it counted."""
    with session.client() as client:
        client.reset_breaker(platform, operation=operation)
