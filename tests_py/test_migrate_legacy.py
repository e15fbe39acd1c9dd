"""`migrate legacy` on copies of the fixture tool: what goes, what stays and why, and that nothing is left broken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import deadline

from exai_files.errors import ConflictError, Error, InvalidRequestError, SourceNotFoundError
from exai_files.migrate.edits import Editor
from exai_files.migrate.imports import Source
from exai_files.migrate.legacy import remove_legacy
from exai_files.migrate.needs import needs
from exai_files.migrate.tree import Tree

TOOL = Path(__file__).parent / "exai_tool"
LIGHT = ("config", "configurations", "scripts/validation", "tools/workflow")
"""The parts that import in no time."""

COMMAND = "from exai_files.cli import main, migrate_legacy; main()"


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The fixture tool in a repository."""
    root = tmp_path_factory.mktemp("committed") / "tool"
    for part in LIGHT:
        shutil.copytree(TOOL / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("config.py", "scripts/monitor_shadow_mode.py"):
        shutil.copy(TOOL / file, root / file)
    (root / "tools/__init__.py").touch()
    git(root, "init", "--quiet", "--template=", "--initial-branch", "main")
    git(root, "config", "user.name", "tester")
    git(root, "config", "user.email", "tester@example.com")
    commit(root)
    git(root, "gc", "--quiet")
    return root


@pytest.fixture
def tool(committed, tmp_path):
    return Path(shutil.copytree(committed, tmp_path / "tool", symlinks=True))


@pytest.fixture(scope="module")
def committed_settings(committed, tmp_path_factory):
    """Only the tool's settings: a few modules, where what counts is git or a process."""
    root = Path(shutil.copytree(committed, tmp_path_factory.mktemp("settings") / "tool"))
    git(root, "rm", "-r", "--quiet", "scripts", "tools")
    commit(root)
    git(root, "gc", "--quiet")
    return root


@pytest.fixture
def settings(committed_settings, tmp_path):
    return Path(shutil.copytree(committed_settings, tmp_path / "tool"))


def git(root, *arguments):
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root, files=None):
    write(root, files or {})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "as it is")


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def state(root):
    """All that a run which is not to change anything must leave as it is."""
    refs = git(root, "for-each-ref", "--format=%(refname) %(objectname)")
    return git(root, "status", "--porcelain", "--branch"), refs, git(root, "worktree", "list")


def run_python(root, code, **variables):
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_command(root, *arguments):
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "migrate", "legacy", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tree_of(root, files):
    write(root, files)
    return Tree(root, [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()])


def apply(root, report):
    """Does what a dry run has said."""
    (root.parent / "changes").write_text(report.diff)
    git(root, "apply", "--index", "../changes")


def outcomes(report):
    return {file.file: file.outcome for file in report.files}


# ===== who needs a file =====

PACKAGE = {
    "pkg/__init__.py": "from .old import NAME, OTHER\n__all__ = ['NAME', 'OTHER']\n",
    "pkg/old.py": "NAME = 1\nOTHER = 2\n",
    "top/__init__.py": "",
    "top/inner/__init__.py": "",
}


@pytest.mark.parametrize(
    ("file", "text", "form"),
    [
        pytest.param("a.py", "import pkg.old\n", "import", id="import"),
        pytest.param("a.py", "import pkg.old as old\n", "import", id="import as"),
        pytest.param("a.py", "from pkg import old\n", "from import", id="module from package"),
        pytest.param("a.py", "from pkg.old import NAME\n", "from import", id="name from module"),
        pytest.param("a.py", "from pkg.old import *\n", "star import", id="star"),
        pytest.param("a.py", "from pkg import NAME\n", "from import", id="re-exported name"),
        pytest.param("a.py", "from pkg import *\nprint(NAME)\n", "star import", id="re-exported name by star"),
        pytest.param("a.py", "import pkg\nprint(pkg.OTHER)\n", "attribute", id="re-exported name as attribute"),
        pytest.param("a.py", "import pkg as p\nprint(p.old.NAME)\n", "attribute", id="module as attribute"),
        pytest.param("a.py", "import pkg\nuse(vars(pkg))\n", "the module as a value", id="package as a value"),
        pytest.param("a.py", "import pkg\ngetattr(pkg, 'NAME')\n", "attribute by name", id="getattr"),
        pytest.param("a.py", "def f():\n    from pkg import NAME\n", "from import, in a function", id="lazy"),
        pytest.param(
            "a.py", "class A:\n    def f(self):\n        import pkg.old\n", "import, in a function", id="method"
        ),
        pytest.param(
            "a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import NAME\n",
            "from import, for type checkers",
            id="for type checkers",
        ),
        pytest.param("a.py", "try:\n    import pkg.old\nexcept ImportError:\n    pass\n", "import", id="tried"),
        pytest.param("pkg/b.py", "from .old import NAME\n", "relative import", id="relative"),
        pytest.param("pkg/b.py", "from . import old\n", "relative import", id="relative module"),
        pytest.param("pkg/sub/b.py", "from ..old import NAME\n", "relative import", id="relative from below"),
        pytest.param("pkg/sub/deep/b.py", "from ... import NAME\n", "relative import", id="relative, two levels"),
        pytest.param("pkg/__init__.py", "from .old import NAME\nX = NAME\n", "relative import", id="used in __init__"),
        pytest.param("top/__init__.py", "from pkg import NAME as N\nX = N\n", "from import", id="used in another one"),
        pytest.param("pkg/b.py", "import old\n", "import", id="as a script's neighbour"),
        pytest.param("a.py", "import importlib as i\ni.import_module('pkg.old')\n", "importlib", id="importlib"),
        pytest.param("a.py", "import_module('.old', 'pkg')\n", "importlib", id="importlib relative to a package"),
        pytest.param("pkg/b.py", "import_module('.old', __package__)\n", "importlib", id="importlib relative"),
        pytest.param("a.py", "import_module(f'pkg.{name}')\n", "made at run time", id="importlib of an f-string"),
        pytest.param("a.py", "import_module('pkg.' + name)\n", "made at run time", id="importlib of a sum"),
        pytest.param("pkg/__init__.py", "import_module('.' + n, __name__)\n", "made at run time", id="lazy package"),
        pytest.param("a.py", "__import__('pkg.old')\n", "__import__", id="__import__"),
        pytest.param("a.py", "patch('pkg.old.NAME')\n", "string", id="patched"),
        pytest.param("a.py", "patch('pkg.NAME')\n", "string", id="re-exported name patched"),
        pytest.param("a.py", "patch.object(pkg, 'NAME')\nimport pkg\n", "attribute by name", id="patched as attribute"),
        pytest.param("pkg/__init__.py", "LAZY = {'NAME': '.old'}\n", "string", id="relative name in a string"),
        pytest.param("a.py", "run('python -m pkg.old --all')\n", "python -m", id="command in a string"),
        pytest.param("a.py", "open('pkg/old.py')\n", "path", id="path in a string"),
        pytest.param("a.py", "open(ROOT / 'pkg' / 'old.py')\n", "path", id="path of parts"),
        pytest.param("a.py", "open(join(ROOT, 'pkg', 'old.py'))\n", "path", id="path joined"),
        pytest.param("pyproject.toml", '[project.scripts]\nold = "pkg.old:main"\n', "text", id="entry point"),
        pytest.param("setup.cfg", "console_scripts =\n    name = pkg:NAME\n", "text", id="entry point by re-export"),
        pytest.param("Dockerfile", 'CMD ["python", "-m", "pkg.old"]\n', "text", id="Dockerfile"),
        pytest.param("Dockerfile", "COPY pkg/old.py /app/pkg/old.py\n", "path", id="copied"),
        pytest.param("compose.yaml", "command: python pkg/old.py\n", "path", id="compose"),
        pytest.param("run.sh", "python -c 'from pkg import NAME'\n", "text", id="shell"),
        pytest.param("run.bat", "python pkg\\old.py\r\n", "path", id="batch file"),
        pytest.param("b.py", "from pkg import NAME\nprint 'Python 2'\n", "cannot be parsed", id="in broken Python"),
        pytest.param(
            "b.py", "from pkg import (\n    NAME,\n)\nprint 'x'\n", "cannot be parsed", id="broken, in a list"
        ),
    ],
)
def test_every_form_of_use_stands_in_the_way(tmp_path, file, text, form):
    tree = tree_of(tmp_path, {**PACKAGE, "pkg/sub/__init__.py": "", file: text})
    uses = needs(tree, "pkg/old.py").uses
    assert [use for use in uses if use.file == file and form in use.form and use.line], uses


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("a.py", '"""Once there was pkg.old, in pkg/old.py."""\n', id="docstring"),
        pytest.param("a.py", "# import pkg.old\n", id="comment"),
        pytest.param("Dockerfile", "# COPY pkg/old.py\n", id="comment elsewhere"),
        pytest.param("docs/guide.md", "See `pkg/old.py` and `pkg.old`.\n", id="document"),
        pytest.param("a.py", "import pkg\nprint(pkg.__doc__)\n", id="the package alone"),
        pytest.param("a.py", "import importlib, pkg\nimportlib.reload(pkg)\n", id="the package reloaded"),
        pytest.param("a.py", "from pkg import *\nprint(1)\n", id="a star that takes nothing"),
        pytest.param("a.py", "import pkg.older\n", id="a longer name"),
        pytest.param("src/pkg/old.py", "open('src/pkg/old.py')\n", id="a path that ends alike"),
        pytest.param("old.py", "import old\n", id="another module of that name"),
        pytest.param("top/__init__.py", "from pkg import NAME as N\n__all__ = ['N']\n", id="passed on, and to nobody"),
        pytest.param("b.py", "# old\nprint 'Python 2, and pkg'\n", id="broken Python about something else"),
    ],
)
def test_what_is_no_use_does_not_stand_in_the_way(tmp_path, file, text):
    assert needs(tree_of(tmp_path, {**PACKAGE, file: text}), "pkg/old.py").uses == []


def test_a_name_is_followed_through_packages_to_its_user(tmp_path):
    chain = {
        "top/inner/__init__.py": "from pkg import NAME as RENAMED\n",
        "top/__init__.py": "from .inner import *\n",
        "a.py": "from top import RENAMED\n",
    }
    found = needs(tree_of(tmp_path, {**PACKAGE, **chain}), "pkg/old.py")
    assert [str(use) for use in found.uses] == [
        "a.py:1: from import: top.RENAMED, through pkg/__init__.py:1 and top/inner/__init__.py:1 and top/__init__.py:1"
    ]
    (tmp_path / "a.py").unlink()
    found = needs(tree_of(tmp_path, {}), "pkg/old.py")
    assert not found.uses
    assert {each.place for each in found.reexports} == {"pkg/__init__.py:1", "top/inner/__init__.py:1"}


# ===== edits =====


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("from .a import X\nfrom .b import Y\n", "from .b import Y\n", id="statement"),
        pytest.param("from .a import X, Y  # both\n", "from .a import Y  # both\n", id="first of two"),
        pytest.param("from .a import Y, X  # both\n", "from .a import Y  # both\n", id="last of two"),
        pytest.param("from .a import Y, X as X, Z\n", "from .a import Y, Z\n", id="in the middle"),
        pytest.param("from .a import (\n    X,  # gone\n    Y,\n)\n", "from .a import (\n    Y,\n)\n", id="of a list"),
        pytest.param("from .a import (X, Y,)\n", "from .a import (Y,)\n", id="of a short list"),
        pytest.param("A = 1\n\n# about X\nfrom .a import X\n\nB = 2\n", "A = 1\n\nB = 2\n", id="with its comment"),
        pytest.param("\n# both\nfrom .a import X\nB = 2\n", "\n# both\nB = 2\n", id="a comment for more"),
        pytest.param("try:\n    from .a import X\nexcept ImportError:\n    X = None\n", "", id="try"),
        pytest.param(
            "try:\n    from .a import X\nexcept ImportError:\n    FOUND = 0\n",
            "try:\n    pass\nexcept ImportError:\n    FOUND = 0\n",
            id="try that does more",
        ),
        pytest.param("if TYPE_CHECKING:\n    from .a import X\n", "", id="for type checkers"),
        pytest.param("if A:\n    B = 1\n    from .a import X\n", "if A:\n    B = 1\n", id="in a block"),
        pytest.param("A = 1\r\nfrom .a import X\r\nB = 2\r\n", "A = 1\r\nB = 2\r\n", id="CRLF"),
        pytest.param("\ufefffrom .a import X\nB = '§'\n", "\ufeffB = '§'\n", id="byte order mark"),
        pytest.param("é = 'é'; __all__ = ['é', 'X']\n", "é = 'é'; __all__ = ['é']\n", id="columns after umlauts"),
        pytest.param("__all__ = ['X', 'Y'] + a.__all__\n", "__all__ = ['Y'] + a.__all__\n", id="__all__"),
        pytest.param("__all__ = [\n    # files\n    'X',\n\n    # more\n    'Y',\n]\n",
                     "__all__ = [\n    # more\n    'Y',\n]\n", id="__all__ with comments"),
        pytest.param("__all__ = ['Y']\n__all__ += ['X']\n__all__.append('X')\n", "__all__ = ['Y']\n__all__ += []\n", id="added to __all__"),
    ],
)  # fmt: skip
def test_an_edit_is_as_small_as_can_be(tmp_path, before, after):
    (tmp_path / "a.py").write_bytes(before.encode())
    source = Source.read(tmp_path, "a.py", "a")
    editor = Editor(source)
    for reference in source.references:
        if reference.statement is not None:
            editor.drop_imports(reference.statement, {"X"})
    editor.drop_from_all({"X"})
    editor.write(tmp_path)
    assert (tmp_path / "a.py").read_bytes().decode() == after


def test_a_statement_that_shares_its_line_is_left_to_people(tmp_path):
    (tmp_path / "a.py").write_text("A = 1; from .a import X\n")
    source = Source.read(tmp_path, "a.py", "a")
    with pytest.raises(Error, match=r"a\.py:1 cannot be edited"):
        Editor(source).drop_imports(source.references[0].statement, {"X"})


# ===== the tool =====

SUMMARY = """
from scripts.validation import validate_timeout_hierarchy
from config import *
import config
validate_timeout_hierarchy.main()
print(config.DEFAULT_TIMEOUT_SECS, TimeoutConfig.get_model_timeout("slow-model", 300))
"""


def test_the_three_modules_of_the_tool_go_or_stay(tool):
    before, head = state(tool), git(tool, "rev-parse", "HEAD")
    summary = run_python(tool, SUMMARY, WORKFLOW_TOOL_TIMEOUT_SECS="90")
    report = remove_legacy(
        tool,
        [
            *("config/migration.py", "config/file_handling.py", "config.py"),
            *("tools/workflow/retired.py", "tools/workflow/retired_steps.py"),
        ],
        moves={"config/timeouts.py": "config/operations.py"},
    )
    assert outcomes(report) == {
        "config/migration.py": "refused",
        "config/file_handling.py": "removed",
        "config.py": "removed",
        "tools/workflow/retired.py": "refused",
        "tools/workflow/retired_steps.py": "refused",
        "config/timeouts.py": "removed",
    }
    migration, handling, shadowed, retired, steps, timeouts = report.files
    assert [str(use) for use in migration.uses] == [
        "scripts/monitor_shadow_mode.py:8: from import: config.MigrationConfig, through config/__init__.py:23",
        "scripts/validation/validate_modules.py:5: string: config.migration",
        "tools/workflow/base.py:8: from import, for type checkers: config.migration.MigrationConfig",
    ]
    assert [str(use) for use in (*retired.uses, *steps.uses)] == [
        "scripts/validation/validate_modules.py:6: string: tools.workflow.retired",
        "tools/workflow/retired.py:3: relative import: tools.workflow.retired_steps.STEPS",
    ]
    assert handling.dropped == ("config.FILE_PATH_GUIDANCE", "config.FILE_UPLOAD_GUIDANCE")
    assert shadowed.remarks == ("no import leads to it: config/__init__.py has its name",)
    methods = ("validate_all", "_validate_timeout_values", "_log_timeout_config", "validate_hierarchy")
    assert timeouts.moved == (
        *("logger", "LONGEST_SECS", "DEFAULT_TIMEOUT_SECS"),
        *(f"OperationsConfig.{name}" for name in (*methods, "get_timeout_summary")),
        "TimeoutConfig",
    )
    assert "line 80" in timeouts.remarks[0]  # it validated itself when it was imported

    assert run_python(tool, SUMMARY, WORKFLOW_TOOL_TIMEOUT_SECS="90") == summary
    assert not (tool / "config/timeouts.py").exists()
    assert not (tool / "guidance.txt").exists()
    assert report.scripts == ("scripts/validation/print_guidance.py",)
    assert not report.failing

    assert (report.branch, report.is_switched) == ("exai-files/remove-legacy", True)
    assert git(tool, "log", "--format=%H", "main..HEAD").split() == list(report.commits)
    assert git(tool, "rev-parse", "main") == head
    assert git(tool, "status", "--porcelain") == ""
    git(tool, *report.way_back.split()[1:])
    git(tool, "branch", "-D", report.branch)
    assert state(tool) == before


def test_the_package_keeps_its_formatting_and_comments(settings):
    before = (settings / "config/__init__.py").read_text()
    apply(settings, remove_legacy(settings, ["config/file_handling.py"], dry_run=True))
    start, end = before.index("# What models are told about files, where"), before.index("\n__all__")
    expected = before[:start] + before[end:]
    expected = expected.replace('    # Files\n    "FILE_PATH_GUIDANCE",\n    "FILE_UPLOAD_GUIDANCE",\n', "")
    assert (settings / "config/__init__.py").read_text() == expected


def test_a_dry_run_shows_the_diff_and_changes_nothing(settings):
    before = state(settings)
    report = remove_legacy(
        settings, ["config/file_handling.py"], moves={"config/timeouts.py": "config/operations.py"}, dry_run=True
    )
    assert state(settings) == before
    assert report.is_complete
    apply(settings, report)
    assert git(settings, "diff", "--cached", "--name-status").split() == [
        *("M", "config/__init__.py", "D", "config/file_handling.py"),
        *("M", "config/operations.py", "D", "config/timeouts.py"),
    ]


# ===== moving =====

GUIDANCE = {"config/file_handling.py": "configurations/file_handling_guidance.py"}


def test_a_clash_is_refused_unless_the_definition_there_is_accepted(settings):
    before = state(settings)
    refused = remove_legacy(settings, moves=GUIDANCE, dry_run=True).files[0]
    assert (refused.outcome, state(settings)) == ("refused", before)
    assert "FILE_PATH_GUIDANCE (config/file_handling.py:3, configurations/file_handling_guidance.py:3)" in refused.why
    assert "FILE_UPLOAD_GUIDANCE" not in refused.why  # the same in both
    assert "--accept" in refused.why

    apply(settings, remove_legacy(settings, moves=GUIDANCE, accepted=["FILE_PATH_GUIDANCE"], dry_run=True))
    text = (settings / "config/__init__.py").read_text()
    wanted = "from configurations.file_handling_guidance import FILE_PATH_GUIDANCE, FILE_UPLOAD_GUIDANCE"
    assert f"try:\n    {wanted}\nexcept ImportError:" in text
    assert run_python(settings, "import config; print(config.FILE_PATH_GUIDANCE)").endswith("as the host has them.\n")


@pytest.mark.parametrize(
    ("old", "new", "clash"),
    [
        pytest.param('"45"', '"46"', "WORKFLOW_TOOL_TIMEOUT_SECS", id="another default"),
        pytest.param('getenv("GLM_TIMEOUT_SECS"', 'getenv("GLM_SECS"', "GLM_TIMEOUT_SECS", id="another variable"),
        pytest.param("SECS * 2.0)", "SECS * 3.0)", "get_shim_timeout", id="another method"),
        pytest.param("def get_timeout_summary", "def get_list", "inherited there", id="a method of its base"),
        pytest.param("class TimeoutConfig:", "class TimeoutConfig(dict):", "has dict", id="another base"),
    ],
)
def test_classes_that_differ_are_not_merged(settings, old, new, clash):
    text = (settings / "config/timeouts.py").read_text()
    assert old in text
    commit(settings, {"config/timeouts.py": text.replace(old, new)})
    report = remove_legacy(settings, moves={"config/timeouts.py": "config/operations.py"}, dry_run=True)
    assert [file.outcome for file in report.files] == ["refused"]
    assert clash in report.files[0].why
    assert not report.diff


BASES = "import os\nfrom .base import B\n"
BODY = "SEP = os.sep\n\n\n# the class\nclass C(B):\n    sep = SEP\n\n\ndef f():\n    return C.sep\n"


@pytest.mark.parametrize(
    ("new", "moved"),
    [
        pytest.param("", "import os\nfrom parts.base import B\n\n\n" + BODY, id="into an empty module"),
        pytest.param(
            '"""New."""\nimport os\n\nY = 1\n',
            '"""New."""\nimport os\nfrom parts.base import B\n\nY = 1\n\n\n' + BODY,
            id="into one that has an import",
        ),
        pytest.param("import sys as os\n", "os (parts/old.py:1, other/new.py:1)", id="another import"),
        pytest.param("SEP = 0\n", "SEP (parts/old.py:3, other/new.py:1)", id="another constant"),
        pytest.param("def f(): return 1\n", "f (parts/old.py:11, other/new.py:1)", id="another function"),
        pytest.param("if 1:\n    f = 2\n", "other/new.py:2 defines f only under a condition", id="conditional"),
    ],
)
def test_definitions_move_with_what_they_need(settings, new, moved):
    files = {
        "parts/__init__.py": "from .old import f  # all\n",
        "parts/base.py": "class B: pass\n",
        "parts/old.py": BASES + BODY,
        "other/__init__.py": "",
        "other/new.py": new,
        "user.py": "from parts import f\nf()\n",
    }
    commit(settings, files)
    report = remove_legacy(settings, moves={"parts/old.py": "other/new.py"}, dry_run=True)
    if not report.is_complete:
        assert moved in report.files[0].why
        return
    apply(settings, report)
    assert (settings / "other/new.py").read_text() == moved
    assert (settings / "parts/__init__.py").read_text() == "from other.new import f  # all\n"


def test_a_move_that_would_import_in_a_circle_is_taken_back(settings):
    commit(settings, {
        "parts/__init__.py": "from .old import f\n",
        "parts/base.py": "B = 1\n",
        "parts/old.py": "from .base import B\n\n\ndef f():\n    return B\n",
        "other/__init__.py": "",
        "other/new.py": "",
    })  # fmt: skip
    report = remove_legacy(settings, moves={"parts/old.py": "other/new.py"})
    assert report.files[0].outcome == "broke"
    assert report.files[0].why.startswith("other.new does not import any more: ImportError: cannot import name 'f'")
    assert report.branch is None


def test_a_module_that_is_used_past_the_package_does_not_move(settings):
    commit(settings, {"user.py": "from config.timeouts import TimeoutConfig\n"})
    report = remove_legacy(settings, moves={"config/timeouts.py": "config/operations.py"})
    assert [use.file for use in report.files[0].uses] == ["user.py"]
    assert report.branch is None


# ===== batches =====

HIDDEN = "import importlib\nimportlib.import_module('.'.join(('config', 'spare')))\n"
SPARE = {"config/spare.py": "", "other/__init__.py": HIDDEN}


def test_a_batch_that_breaks_is_taken_back_and_the_others_go(settings):
    commit(settings, SPARE)
    report = remove_legacy(settings, ["config/spare.py", "config/file_handling.py"])
    assert outcomes(report) == {"config/spare.py": "broke", "config/file_handling.py": "removed"}
    assert report.files[0].why == (
        "other does not import any more: ModuleNotFoundError: No module named 'config.spare'"
    )
    assert (settings / "config/spare.py").exists()
    assert len(report.commits) == 1
    assert git(settings, "diff", "--name-only", "main").split() == ["config/__init__.py", "config/file_handling.py"]


def test_names_that_vanish_unseen_are_a_break(settings):
    commit(settings, {
        "shop/__init__.py": "from .old import X\n__all__ = sorted({'X'})\n".replace("'X'", "chr(88)"),
        "shop/old.py": "X = 1\n",
    })  # fmt: skip
    report = remove_legacy(settings, ["shop/old.py"])
    assert report.files[0].why == "shop lists in __all__ what it does not have: X"
    assert report.branch is None


def test_files_that_need_each_other_go_in_one_commit(settings):
    commit(settings, {
        "pair/__init__.py": "",
        "pair/one.py": "from . import two\n",
        "pair/two.py": "def f():\n    import pair.one\n",
    })  # fmt: skip
    assert outcomes(remove_legacy(settings, ["pair/one.py"], dry_run=True)) == {"pair/one.py": "refused"}
    report = remove_legacy(settings, ["pair/two.py", "config.py", "pair/one.py"], batch_size=1)
    assert report.is_complete
    changed = git(settings, "log", "--reverse", "--format=tformat:+", "--name-only", "main..HEAD").split()
    assert changed == ["+", "config.py", "+", "pair/one.py", "pair/two.py"]


def test_a_second_run_has_a_branch_of_its_own(settings):
    git(settings, "branch", "exai-files/remove-legacy")
    assert remove_legacy(settings, ["config.py"]).branch == "exai-files/remove-legacy-2"


def test_a_tool_in_a_part_of_its_repository_is_served(settings, committed):
    root = settings.parent / "whole"
    shutil.copytree(settings, root / "tool", ignore=shutil.ignore_patterns(".git"))
    shutil.copytree(committed / ".git", root / ".git")
    commit(root)
    assert remove_legacy(root / "tool", ["config/file_handling.py"]).is_complete
    assert git(root, "diff", "--name-only", "main").split() == [
        "tool/config/__init__.py",
        "tool/config/file_handling.py",
    ]


# ===== what running the tool's code may do =====


def test_imports_get_neither_variables_nor_src_nor_the_tool_itself(settings, monkeypatch):
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-not-for-imports")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(settings), str(settings / "src")]))
    commit(settings, {
        "src/logging/__init__.py": "",
        "careful.py": (
            "import logging, os, sys\n"
            "logging.getLogger()\n"
            "assert 'MOONSHOT_API_KEY' not in os.environ\n"
            f"assert not any(path.startswith({str(settings)!r}) for path in sys.path)\n"
            "open('left-behind', 'w').close()\n"
        ),
        ".gitignore": "secret.env\n",
    })  # fmt: skip
    write(settings, {"secret.env": "KEY=1\n"})
    report = remove_legacy(settings, ["config/file_handling.py"])
    assert report.is_complete
    assert not report.failing
    assert not (settings / "left-behind").exists()
    assert (settings / "secret.env").exists()


def test_modules_that_never_imported_or_never_end_are_told_and_no_obstacle(settings):
    commit(settings, {
        "lacking.py": "import a_module_that_nobody_has\n",
        "endless.py": "import time\nif True:\n    T = [time.sleep(60)]\n",
        "leaving.py": "import os\nX = os._exit(3)\n",
    })  # fmt: skip
    report = remove_legacy(settings, ["config/file_handling.py"], timeout=0.8)
    assert report.is_complete
    assert report.failing == {
        "endless": "no end after 0.8 s",
        "lacking": "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
        "leaving": "the process ended with code 3",
    }


def test_ctrl_c_leaves_everything_as_it_was(settings):
    commit(settings, {"endless.py": f"import os, time\nX = [open({str(settings.parent / 'pid')!r}, 'w').write(str(os.getpid())), time.sleep(60)]\n"})  # fmt: skip
    before = state(settings)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "migrate", "legacy", str(settings), "--remove", "config/file_handling.py"],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait = deadline()
    while not (settings.parent / "pid").exists() or not (settings.parent / "pid").read_text():
        wait()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert state(settings) == before
    with pytest.raises(ProcessLookupError):
        os.kill(int((settings.parent / "pid").read_text()), 0)


# ===== bad input =====


@pytest.mark.parametrize(
    ("files", "moves", "error", "said"),
    [
        pytest.param([], {}, InvalidRequestError, "nothing to remove", id="nothing"),
        pytest.param(["config/gone.py"], {}, SourceNotFoundError, r"no config/gone\.py", id="not there"),
        pytest.param(["../other.py"], {}, InvalidRequestError, r"other\.py is not in", id="outside"),
        pytest.param(["/etc/passwd"], {}, InvalidRequestError, "/etc/passwd is not in", id="far outside"),
        pytest.param(["config"], {}, InvalidRequestError, "config is no Python file", id="a directory"),
        pytest.param(["ignored.py"], {}, InvalidRequestError, r"ignored\.py is not in git", id="not in git"),
        pytest.param(["config/base.py"], {"config.py": "config/base.py"}, InvalidRequestError, "cannot go and get", id="to a module that goes"),
        pytest.param([], {"config.py": "config/nowhere.py"}, SourceNotFoundError, "nowhere", id="to nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_removed_is_refused_at_once(settings, files, moves, error, said):
    commit(settings, {".gitignore": "ignored.py\n"})
    write(settings, {"ignored.py": "", "../other.py": ""})
    before = state(settings)
    with pytest.raises(error, match=said):
        remove_legacy(settings, files, moves=moves)
    assert state(settings) == before


def test_places_that_are_no_clean_repository_are_refused(settings, tmp_path):
    with pytest.raises(SourceNotFoundError, match="no directory"):
        remove_legacy(tmp_path / "nowhere", ["a.py"])
    with pytest.raises(SourceNotFoundError, match="no directory"):
        remove_legacy(settings / "config.py", ["a.py"])
    write(tmp_path, {"bare/a.py": "", "fresh/a.py": ""})
    with pytest.raises(InvalidRequestError, match="no git repository"):
        remove_legacy(tmp_path / "bare", ["a.py"])
    git(tmp_path / "fresh", "init", "--quiet")
    with pytest.raises(InvalidRequestError, match="no commit yet"):
        remove_legacy(tmp_path / "fresh", ["a.py"])
    write(settings, {"new.py": ""})
    with pytest.raises(ConflictError, match=r"not committed: new\.py; commit or stash"):
        remove_legacy(settings, ["config.py"])
    git(settings, "add", "new.py")
    with pytest.raises(ConflictError, match=r"not committed: new\.py"):
        remove_legacy(settings, ["config.py"], dry_run=True)


def test_an_interpreter_that_is_none_is_refused(settings):
    before = state(settings)
    with pytest.raises(InvalidRequestError, match="no-such-python cannot be used"):
        remove_legacy(settings, ["config.py"], python="no-such-python")
    assert state(settings) == before


def test_what_cannot_be_parsed_matters_only_where_it_is_needed(tool):
    broken = "print 'Python 2'\n"
    commit(tool, {"tools/old_print.py": broken, "odd.py": "A = '\xe9'\n", "shop/__init__.py": "from .a import (\n", "shop/a.py": ""})  # fmt: skip
    (tool / "odd.py").write_bytes(b"A = '\xe9'\n")
    commit(tool)
    report = remove_legacy(tool, ["config/file_handling.py", "tools/old_print.py", "shop/a.py"], dry_run=True)
    assert outcomes(report) == {
        "config/file_handling.py": "removed",
        "tools/old_print.py": "removed",
        "shop/a.py": "refused",
    }
    assert report.unreadable.keys() == {"odd.py", "shop/__init__.py", "tools/old_print.py"}
    assert report.unreadable["tools/old_print.py"].startswith("line 1: ")
    assert [use.form for use in report.files[2].uses] == ["text that cannot be parsed"]


def test_a_package_with_modules_keeps_its_init(settings):
    commit(settings, {"shop/__init__.py": "", "shop/a.py": "", "alone/__init__.py": ""})
    report = remove_legacy(settings, ["shop/__init__.py", "alone/__init__.py"], dry_run=True)
    assert outcomes(report) == {"shop/__init__.py": "refused", "alone/__init__.py": "removed"}


# ===== the command =====


def test_the_command_says_what_it_did_and_how_to_go_back(settings):
    commit(settings, {"user.py": "from config import MigrationConfig\n"})
    done = run_command(settings, ".", "--remove", "config/file_handling.py", "config/migration.py", "config.py")
    assert done.returncode == 3, done.stderr
    assert "config/file_handling.py: removed\n  nobody took config.FILE_PATH_GUIDANCE" in done.stdout
    assert "config/migration.py: refused: needed in 1 file\n  user.py:1: from import: config.Migr" in done.stdout
    assert "the branch exai-files/remove-legacy has 1 new commit; you are on it now" in done.stderr
    assert "`git switch main` goes back" in done.stderr


def test_the_command_has_json_and_documented_exit_codes(settings):
    move = "config/timeouts.py:config/operations.py"
    planned = run_command(settings, ".", "--move", move, "--dry-run", "--json")
    assert planned.returncode == 10, planned.stderr
    report = json.loads(planned.stdout)
    assert report["files"][0]["moved_to"] == "config/operations.py"
    assert report["diff"].startswith("diff --git")
    refused = run_command(settings, ".", "--remove", "config/base.py", "--json")
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["files"][0]["uses"][0]["form"] == "relative import"
    assert run_command(settings, ".", "--remove", "config.py").returncode == 0
    assert run_command(settings, ".", "--remove", "config/gone.py").returncode == 4
    assert run_command(settings, ".", "--move", "config.py").returncode == 2
