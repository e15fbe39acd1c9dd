"""What the documentation shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import exai_files
from exai_files import _core

ROOT = Path(__file__).parent.parent


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_the_readme_runs_as_it_stands(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert "Exactly once." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["errors", "mcp", "metrics", "progress"])
def test_a_module_that_the_readme_names_is_there_without_being_imported(name):
    assert f"exai_files.{name}" in (ROOT / "README.md").read_text()
    code = f"import exai_files; print(exai_files.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"exai_files.{name}\n", done.stderr


def test_the_readme_names_only_commands_there_are():
    from click.testing import CliRunner

    from exai_files.cli.main import cli  # with its commands

    code = blocks("README.md", "sh") + re.findall(r"`([^`\n]+)`", (ROOT / "README.md").read_text())
    named = set(re.findall(r"exai-files ([a-z]+)", "\n".join(code)))
    assert len(named) >= 6
    for command in named:
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0, command


def test_the_readme_is_a_screen_and_a_half():
    assert len((ROOT / "README.md").read_text().splitlines()) < 90


def test_the_example_configuration_is_short_and_complete():
    example = _core.config_example()
    assert len(example.splitlines()) < 200
    with exai_files.Client(registry=":memory:", environment={}) as client:
        for setting in client.settings():
            assert f"# {setting.path.rpartition('.')[2]} = " in example


def test_every_public_name_is_documented():
    for name in exai_files.__all__:
        value = getattr(exai_files, name)
        if name != "__version__" and typing.get_origin(value) is None:  # what is no alias: those cannot carry theirs
            assert value.__doc__, name


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (exai_files.Client.delete, "ConflictError: It is leased there, or under legal hold"),
        (exai_files.Client.trash, "ConflictError: It is leased, or under legal hold"),
        (exai_files.Lifecycle.archive, "or it is leased or under legal hold; nothing was deleted"),
        (exai_files.Lifecycle.erase, "NotFoundError: No file fits"),
        (exai_files.Lifecycle.erase, "the file is in the trash; erase it again"),
        (exai_files.Client.hold, "neither rules nor time limits take it away, nor is it purged"),
        (exai_files.AsyncClient.lease, "async with files.lease("),
        (exai_files.Recovery.list, "What was killed a moment ago is not among it yet: for up to 30 s"),
        (exai_files.Copies.check, "What is missing or damaged is noted as gone"),
        (exai_files.metrics, "the command serves none"),
    ],
)
def test_the_documentation_says_what_surprises(call, said):
    assert said in " ".join(call.__doc__.split())


def test_the_demo_sends_nothing_the_second_time(capsys):
    from exai_files import demo

    demo.main()
    said = capsys.readouterr().out
    assert "12 uploads were sent" in said
    assert "0 uploads were sent" in said
    assert "A file is handed over once" in said
