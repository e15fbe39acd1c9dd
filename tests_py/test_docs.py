"""What the documentation shows is what happens."""

from __future__ import annotations

import re
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
        if name != "__version__":
            assert getattr(exai_files, name).__doc__, name


def test_the_demo_sends_nothing_the_second_time(capsys):
    from exai_files import demo

    demo.main()
    said = capsys.readouterr().out
    assert "12 uploads were sent" in said
    assert "0 uploads were sent" in said
    assert "A file is handed over once" in said
