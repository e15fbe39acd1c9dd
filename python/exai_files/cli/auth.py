"""`auth`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json

if TYPE_CHECKING:
    from exai_files.auth import CredentialStatus, DeviceCode
    from exai_files.client import Client

NOT_USABLE = 6
"""Exit code: authentication or permission."""

KIMI_CLI = "~/.kimi/credentials/kimi-code.json"
"""Where kimi-cli keeps its tokens."""

account = click.option("--account", metavar="NAME", help="Your name for the account. Default: the platform's own.")


@cli.group()
def auth() -> None:
    """Where keys come from; logging in and out. No key is ever shown."""


@auth.command("status")
@click.option("--check", is_flag=True, help="Run the commands that print keys, too.")
@as_json
@click.pass_obj
def auth_status(session: Session, check: bool, as_json: bool) -> int:
    """Show where each account's key comes from, and whether it is there.

    A key is looked for in this order: the call, api_key_command, api_key_file, api_key_vault, variables, and where `auth
    login` keeps it (credentials.store). The exit code is 6 when one that is named cannot be had.
    """
    with session.client(recovers=False) as client:
        statuses, order = client.auth.status(check=check), client.auth.order
    if as_json:
        for status in statuses:
            output.print_json(status)
    else:
        rows = [
            (
                s.platform,
                s.account or "-",
                s.source or "-",
                s.fingerprint or "-",
                s.expires_at.isoformat(timespec="seconds") if s.expires_at else "-",
                s.problem or "",
            )
            for s in statuses
        ]
        output.table(rows, ("PLATFORM", "ACCOUNT", "FROM", "FINGERPRINT", "EXPIRES", "PROBLEM"))
        click.echo(f"looked for in this order: {', '.join(order)}", err=True)
    return NOT_USABLE if any(status.source and status.problem for status in statuses) else 0


@auth.command("login")
@click.argument("platform")
@account
@click.pass_obj
def auth_login(session: Session, platform: str, account: str | None) -> None:
    """Log in, and keep what that gives where the setting credentials.store says.

    A platform with logins (kimi-code) shows a code and waits until it was entered in a browser. For others the key is
    asked for, without showing it, or read from standard input.
    """
    with session.client(recovers=False) as client:
        if uses_tokens(client, platform):
            status = client.auth.login(platform, prompt=show, account=account)
        else:
            status = client.auth.keep_key(platform, ask("API key"), account=account)
    report("logged in", status)


@auth.command("logout")
@click.argument("platform")
@account
@click.pass_obj
def auth_logout(session: Session, platform: str, account: str | None) -> None:
    """Keep an account's key or tokens no more. Variables and files are left as they are."""
    with session.client(recovers=False) as client:
        was_there = client.auth.logout(platform, account=account)
    click.echo(f"{platform}: logged out" if was_there else f"{platform}: nothing was kept", err=True)


@auth.command("rotate")
@click.argument("platform", required=False)
@account
@click.option("--master-key-file", metavar="FILE", help="Seal all that is kept with the key in this file instead.")
@click.pass_obj
def auth_rotate(session: Session, platform: str | None, account: str | None, master_key_file: str | None) -> None:
    """Replace a key by a new one, a login's tokens by new ones, or the master key by another.

    The old key is used until the new one is kept, and can be revoked in the platform's console then.
    """
    if (platform is None) == (master_key_file is None):
        raise click.UsageError("name a platform, or --master-key-file")
    with session.client(recovers=False) as client:
        if master_key_file is not None:
            count = client.auth.reseal(master_key_file)
            click.echo(f"sealed {count} anew; set credentials.master_key_file to {master_key_file} now", err=True)
        elif platform is not None and uses_tokens(client, platform):
            report("renewed", client.auth.renew(platform, account=account))
        elif platform is not None:
            report("replaced", client.auth.keep_key(platform, ask("New API key"), account=account))


@auth.command("import")
@click.argument("platform")
@account
@click.option("--file", metavar="FILE", help=f"Tokens that kimi-cli has fetched. Default: {KIMI_CLI}.")
@click.pass_obj
def auth_import(session: Session, platform: str, account: str | None, file: str | None) -> None:
    """Keep a key that now comes from a variable, a file or a command; or kimi-cli's tokens.

    Take it away there then: until that is done it comes before what is kept.
    """
    with session.client(recovers=False) as client:
        if uses_tokens(client, platform):
            status = client.auth.import_tokens(platform, file or KIMI_CLI, account=account)
        else:
            status = client.auth.take_over(platform, account=account)
    report("imported", status)


def uses_tokens(client: Client, platform: str) -> bool:
    """Whether its accounts are logged into, and not given a key."""
    return any(status.platform == platform and status.method == "oauth" for status in client.auth.status())


def ask(what: str) -> str:
    """A secret, from whoever sits there, or from standard input."""
    if sys.stdin.isatty():
        secret: str = click.prompt(what, hide_input=True, err=True)
        return secret
    return sys.stdin.readline().strip()


def show(code: DeviceCode) -> None:
    """What a person has to do."""
    click.echo(
        f"open {code.uri_complete or code.uri or 'the page of the platform'} and enter {code.user_code}", err=True
    )


def report(what: str, status: CredentialStatus) -> None:
    """Says what was done; standard error, because there is nothing to pipe on."""
    click.echo(f"{status.platform} ({status.account}): {what}, {status.fingerprint}, from {status.source}", err=True)
