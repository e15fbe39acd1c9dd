"""This package in the place of the existing tool's modules: what is imported, what is replaced, and how it is undone."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import pytest

import exai_files
from exai_files import errors
from exai_files.dropin import install, names, originals, wiring

TOOL = Path(__file__).parent / "exai_tool"
PACKAGE = Path(exai_files.__file__).parent
MODULES = sorted(names.STAND_INS)
PYCACHE = tempfile.TemporaryDirectory()
CREDENTIALS = {
    **{"KIMI_API_KEY": "sk-none", "GLM_API_KEY": "none.none", "REDIS_URL": "redis://127.0.0.1:9/0"},
    **{"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_ROLE_KEY": "service-role"},
}


@pytest.fixture(scope="session")
def committed_tool(tmp_path_factory):
    root = tmp_path_factory.mktemp("committed") / "tool"
    shutil.copytree(TOOL, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "src/file_management/errors.py").write_bytes(
        (root / "src/file_management/errors.py").read_bytes().replace(b"\n", b"\r\n")
    )
    (root / "src/providers/glm.py").write_bytes((root / "src/providers/glm.py").read_bytes().rstrip(b"\n"))
    (root / "src/providers/kimi.py").chmod(0o755)
    git(root, "init", "--quiet", "--template=")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "the tool")
    git(root, "repack", "-a", "-d", "--quiet")
    return root


@pytest.fixture
def tool(committed_tool, tmp_path):
    """The tool in a git work tree; one file has CR LF, one no line end at its end, one may be executed."""
    yield shutil.copytree(committed_tool, tmp_path / "tool")
    shutil.rmtree(tmp_path / "tool")


def git(root, *command, given=None):
    who = [argument for name in ("user.name", "user.email") for argument in ("-c", f"{name}=somebody@localhost")]
    command = ["git", *who, "-c", "core.autocrlf=false", *command]
    return subprocess.run(command, cwd=root, input=given, capture_output=True, check=True).stdout


def dirty(root):
    return git(root, "status", "--porcelain").decode()


def tree(root):
    """Every file with its bytes and mode."""
    files = [path for path in root.rglob("*") if ".git" not in path.parts and path.is_file()]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) for path in files}


def states(places):
    return {place.module: place.state for place in places}


def run(root, *command, python=sys.executable, check=True, **environment):
    """In a process of its own, with the tool on its path and nothing of ours in its environment."""
    home = str(root.parent)
    given = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "XDG_DATA_HOME": f"{home}/data",
        "PYTHONPATH": str(PACKAGE.parent),
    }
    given |= {"PYTHONPYCACHEPREFIX": PYCACHE.name, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    given |= environment
    done = subprocess.run(
        [python, *command], cwd=root, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


# ===== the table =====


@pytest.mark.parametrize("ours", MODULES)
def test_every_name_in_the_table_is_there_to_be_imported(ours):
    module, row = import_module(f"exai_files.dropin.{ours}"), names.STAND_INS[ours]
    given = {}
    exec(names.shim(f"exai_files.dropin.{ours}"), given)
    for name in (*row.names, *row.later):
        assert name in module.__all__
        assert given[name] is getattr(module, name)
        if inspect.isroutine(given[name]):
            assert inspect.signature(given[name])
    assert given["__getattr__"]("__all__") is module.__all__


def test_every_module_of_the_fixture_is_in_the_table():
    here = {path.parent if path.name == "__init__.py" else path.with_suffix("") for path in TOOL.rglob("*.py")}
    found = {".".join(path.relative_to(TOOL).parts) for path in here}
    assert set(names.modules()) - found == {"src.providers.file_base"}, "which no version of the tool imports"
    assert set(wiring.PROVIDERS) <= found


IMPORT = """
import importlib, sys
how, order = sys.argv[1], sys.argv[2:]
if how == "clash":
    import prometheus_client as p
    p.Counter("circuit_breaker_failures_total", "there first", ["service"])
    p.Counter("circuit_breaker_state_changes_total", "there first", ["service", "from_state", "to_state"])
    p.Counter("audit_operations_total", "there first", ["nothing_of_the_kind"])
    p.Histogram("deduplication_check_duration_seconds", "there first")
    p.Gauge("mcp_file_active_uploads", "there first", ["service"])
for name in order * 2:
    module = importlib.import_module("exai_files.dropin." + name)
    assert sys.modules["exai_files.dropin." + name] is module
    for each in module.__all__ if how != "bare" else ():
        getattr(module, each)
"""


@pytest.mark.parametrize(
    ("how", "environment"), [pytest.param("clash", CREDENTIALS, id="clash"), pytest.param("alone", {}, id="alone")]
)
def test_all_modules_import_in_any_order_and_twice_with_and_without_credentials(tmp_path, how, environment):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed).sample(MODULES, len(MODULES))
    said = run(tmp_path, "-W", "error", "-c", IMPORT, how, *order, **environment)
    assert said.stdout + said.stderr == ""


MEASURE = """
import importlib, os, sys, time
rounds, before, order = int(sys.argv[1]), sys.argv[2].split(), sys.argv[3:]
for name in before:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
for name in order:
    for _ in range(rounds):
        reader, writer = os.pipe()
        if os.fork():
            os.close(writer)
            print(name, os.read(reader, 100).decode())
            os.close(reader)
            assert os.wait()[1] == 0, name
        else:
            began = time.process_time()
            module = importlib.import_module("exai_files.dropin." + name)
            os.write(writer, str(time.process_time() - began).encode())
            os._exit(0)
"""
LOADED = "pydantic.main pydantic.fields pydantic.types pydantic.functional_serializers prometheus_client redis.asyncio"
"""Packages of others that the tool has loaded before it imports any of our modules."""


def median_seconds(tmp_path, before, rounds):
    """By module: the processor time it takes to import it first of ours in a process."""
    times = {}
    for line in run(tmp_path, "-c", MEASURE, str(rounds), before, *MODULES).stdout.splitlines():
        name, seconds = line.split()
        times.setdefault(name, []).append(float(seconds))
    return {name: statistics.median(taken) for name, taken in times.items()}


def test_no_module_takes_a_tenth_of_a_second_to_import(tmp_path):
    net = median_seconds(tmp_path, LOADED, rounds=3)
    gross = median_seconds(tmp_path, "", rounds=1)
    for name in MODULES:
        print(f"{name}: {net[name] * 1000:.1f} ms, with third-party packages {gross[name] * 1000:.1f} ms")
    assert max(net.values()) < 0.1, net


def interpreters():
    found = subprocess.run([".ci/interpreters"], cwd=TOOL.parents[1], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("python", interpreters())
def test_every_interpreter_imports_them_without_any_other_package(tmp_path, python):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "exai_files").symlink_to(PACKAGE)  # without what else lies beside it
    run(tmp_path, "-S", "-W", "error", "-c", IMPORT, "bare", *MODULES, python=python, PYTHONPATH=str(tmp_path / "only"))


# ===== install and uninstall =====


def test_installed_the_tools_own_tests_pass_and_afterwards_nothing_is_left(tool):
    before = tree(tool)
    places = states(install.install(tool))
    assert {state for module, state in places.items() if module != "src.providers.file_base"} == {"replaced"}
    assert run(tool, "-m", "pytest", "-q").stdout.rstrip().splitlines()[-1].startswith("11 passed")
    assert set(states(install.uninstall(tool)).values()) == {"original", "missing"}
    assert (tree(tool), dirty(tool)) == (before, "")
    assert run(tool, "-m", "pytest", "-q").stdout.rstrip().splitlines()[-1].startswith("11 passed")
    assert dirty(tool) == ""


@pytest.mark.parametrize("keep", ["copies", "branch"])
def test_bytes_modes_and_line_ends_come_back(tool, keep):
    (tool / "src/file_management/models.py").write_text("# edited, and not committed\n")
    before, head = tree(tool), git(tool, "rev-parse", "HEAD")
    install.install(tool, keep=keep)
    installed = tree(tool)
    assert installed["src/file_management/errors.py"][0].endswith(b"\r\n")
    assert installed["src/file_management/errors.py"][0].count(b"\n") == 1
    assert installed["src/providers/kimi.py"][1] == before["src/providers/kimi.py"][1]
    assert any(path.endswith(".orig") for path in installed) is (keep == "copies")
    branches = git(tool, "branch", "--list", originals.BRANCH).decode()
    assert bool(branches) is (keep == "branch")
    install.uninstall(tool)
    assert tree(tool) == before
    assert (git(tool, "rev-parse", "HEAD"), git(tool, "branch", "--list", originals.BRANCH)) == (head, b"")
    assert dirty(tool) == " M src/file_management/models.py\n"


def test_the_originals_are_the_very_files(tool):
    path = tool / "src/file_management/exceptions.py"
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    before = path.stat()
    install.install(tool)
    install.uninstall(tool)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_dry_run_is_a_diff_that_git_can_apply_and_changes_nothing(tool):
    before = tree(tool)
    said = run(tool, "-m", "exai_files.dropin", "install", "--dry-run", ".").stdout
    assert (tree(tool), dirty(tool)) == (before, "")
    git(tool, "apply", "--whitespace=nowarn", "-", given=install.diff(install.plan(tool)).encode())
    applied = {path: content for path, (content, _) in tree(tool).items()}
    git(tool, "checkout", "--quiet", ".")
    install.install(tool)
    installed = {path: content for path, (content, _) in tree(tool).items() if path in applied}
    assert installed == applied
    assert said.count("--- a/") == sum(before[path][0] != content for path, content in applied.items()) == 38


def test_installing_twice_is_installing_once(tool):
    install.install(tool)
    once = tree(tool)
    assert install.plan(tool) == []
    assert states(install.install(tool))["src.file_management.registry"] == "replaced"
    assert tree(tool) == once


def test_what_was_put_back_by_hand_is_replaced_again(tool):
    before = tree(tool)
    install.install(tool)
    git(tool, "checkout", "--quiet", "src/file_management")
    assert states(install.status(tool))["src.file_management.models"] == "original"
    assert states(install.install(tool))["src.file_management.models"] == "replaced"
    git(tool, "checkout", "--quiet", ".")
    install.uninstall(tool)
    assert tree(tool) == before


def test_status_says_for_each_module_what_is_there(tool):
    assert set(states(install.status(tool)).values()) == {"original", "missing"}
    install.install(tool)
    (tool / "src/file_management/models.py").write_text("# edited\n")
    (tool / "src/file_management/errors.py").unlink()
    as_if_written_by("0.0.1", tool, "src/file_management/exceptions.py")
    said = run(tool, "-m", "exai_files.dropin", "status", "--json", ".", check=False)
    places = {each["module"]: each for each in json.loads(said.stdout)["modules"]}
    assert said.returncode == 10
    assert places["src.file_management.models"]["state"] == "changed since"
    assert places["src.file_management.errors"]["state"] == "missing"
    assert places["src.file_management.exceptions"]["state"] == "other version"
    assert places["src.file_management.exceptions"]["remark"] == "0.0.1"
    assert places["src.providers.kimi"]["remark"] == "KimiModelProvider.upload_file"
    assert places["scripts/ws/run_ws_daemon.py"]["state"] == "replaced"


def as_if_written_by(version, tool, path):
    """The installation, as another version had left it."""
    noted = json.loads((tool / install.MANIFEST).read_text())
    (tool / path).write_text("from exai_files.dropin.of_another_name import *\n")
    noted["files"][path]["after"] = hashlib.sha256((tool / path).read_bytes()).hexdigest()
    (tool / install.MANIFEST).write_text(json.dumps({**noted, "version": version}))


@pytest.mark.parametrize("keep", ["copies", "branch"])
def test_another_version_is_brought_up_to_date_and_still_undone(tool, keep):
    before = tree(tool)
    install.install(tool, keep=keep)
    installed = tree(tool)
    as_if_written_by("0.0.1", tool, "src/file_management/exceptions.py")
    assert [each.module for each in install.plan(tool)] == ["src.file_management.exceptions"]
    install.install(tool, keep=keep)
    assert {path: each for path, each in tree(tool).items() if path != install.MANIFEST} == {
        path: each for path, each in installed.items() if path != install.MANIFEST
    }
    install.uninstall(tool)
    assert tree(tool) == before


def test_a_file_edited_since_is_kept_unless_forced(tool):
    before = tree(tool)
    install.install(tool)
    (tool / "src/file_management/models.py").write_bytes(b"")
    edited = tree(tool)
    with pytest.raises(errors.ConflictError, match=r"edited .*: src/file_management/models\.py; --force"):
        install.uninstall(tool)
    with pytest.raises(errors.ConflictError, match="edited"):
        install.install(tool)
    assert tree(tool) == edited
    assert run(tool, "-m", "exai_files.dropin", "uninstall", ".", check=False).returncode == 2
    run(tool, "-m", "exai_files.dropin", "uninstall", "--force", ".")
    assert (tree(tool), dirty(tool)) == (before, "")


def test_an_original_that_is_not_what_it_was_is_never_put_back(tool):
    install.install(tool)
    (tool / "src/file_management/models.py.orig").write_text("# another\n")
    installed = tree(tool)
    with pytest.raises(errors.IntegrityError, match=r"models\.py\" is not what it was; nothing was touched"):
        install.uninstall(tool, force=True)
    assert tree(tool) == installed


def through_a_symlink(root):
    real = root / "src/file_management/registry"
    real.rename(root.parent / "elsewhere")
    real.symlink_to(root.parent / "elsewhere")


def as_a_symlink(root):
    (root / "src/file_management/models.py").unlink()
    (root / "src/file_management/models.py").symlink_to(root / "src/file_management/errors.py")


def with_a_note_elsewhere(root):
    (root.parent / "note").write_text("{}")
    (root / install.MANIFEST).symlink_to(root.parent / "note")


def with_a_note_that_leads_out(root):
    install.install(root)
    noted = json.loads((root / install.MANIFEST).read_text())
    noted["files"]["../elsewhere.py"] = noted["files"].pop("src/file_management/models.py")
    (root / install.MANIFEST).write_text(json.dumps(noted))
    (root.parent / "elsewhere.py").write_text("# somebody's\n")


@pytest.mark.parametrize("spoil", [through_a_symlink, as_a_symlink, with_a_note_elsewhere, with_a_note_that_leads_out])
@pytest.mark.parametrize("act", [install.install, install.uninstall, install.status])
def test_what_leads_elsewhere_is_refused(tool, spoil, act):
    if (spoil, act) in {(through_a_symlink, install.uninstall), (as_a_symlink, install.uninstall)}:
        install.install(tool)
        git(tool, "checkout", "--quiet", ".")
    spoil(tool)
    before = tree(tool.parent)
    with pytest.raises(errors.InvalidRequestError, match="leads elsewhere"):
        act(tool)
    assert tree(tool.parent) == before


def test_somebody_elses_copy_is_in_the_way(tool):
    (tool / "src/file_management/models.py.orig").write_text("# mine\n")
    before = tree(tool)
    with pytest.raises(errors.ConflictError, match=r"models\.py\.orig\" is in the way"):
        install.install(tool)
    assert tree(tool) == before


@pytest.mark.parametrize("place", ["", "src", "no-such-directory"])
def test_a_directory_that_is_not_the_tools_is_refused(tmp_path, place):
    (tmp_path / "src").mkdir()
    with pytest.raises(errors.InvalidRequestError, match=r"give the .* that has the tool's src in it"):
        install.install(tmp_path / place)
    with pytest.raises(errors.Error):
        install.uninstall(tmp_path / place)
    assert [path.name for path in tmp_path.rglob("*")] == ["src"]


def test_without_git_there_is_no_branch_but_there_are_copies(tool):
    shutil.rmtree(tool / ".git")
    before = tree(tool)
    with pytest.raises(errors.InvalidRequestError, match="git rev-parse failed"):
        install.install(tool, keep="branch")
    assert tree(tool) == before
    install.install(tool)
    install.uninstall(tool)
    assert tree(tool) == before


def test_the_tools_later_version_gets_its_eight_names(tool):
    package = tool / "src/file_management"
    (package / "__init__.py").write_text(
        "from .registry.file_registry import FileRegistry, FileMetadata, FileType, CrossPlatformPath\n"
        "from .recovery import ErrorRecoveryManager, ErrorType, RecoveryStrategy, recovery_operation\n"
        "from . import audit\n"
    )
    (package / "recovery/recovery_manager.py").write_text("import asyncpg_is_not_installed\n")
    install.install(tool)
    later = [name for row in names.STAND_INS.values() if row.later for name in row.later]
    code = "\n".join(
        f"from {path} import {', '.join((*row.names, *row.later))}"
        for row in names.STAND_INS.values()
        if row.later
        for path in row.paths
    )
    run(tool, "-W", "error", "-c", code)
    assert "recovery_operation" in later


def test_a_provider_without_the_method_is_said_to_be_missing(tool):
    (tool / "src/providers/kimi.py").write_text("class KimiModelProvider:\n    pass\n")
    (tool / "scripts/ws/run_ws_daemon.py").write_text("print('no files here')\n")
    places = {place.module: place for place in install.install(tool)}
    assert str(places["src.providers.kimi"]) == "src.providers.kimi: missing (KimiModelProvider.upload_file)"
    assert places["scripts/ws/run_ws_daemon.py"].remark == "starts no FileLifecycleManager"


# ===== what goes wrong meanwhile =====


@pytest.mark.parametrize(
    ("keep", "place"),
    [
        pytest.param("copies", f"src/file_management/errors.py{install.NEW}", id="new"),
        pytest.param("copies", f"utils/file/deduplication.py{install.NEW}", id="one-of-the-last"),
        pytest.param("branch", f"utils/file/deduplication.py{install.NEW}", id="branch"),
        pytest.param("branch", f"src/file_management/errors.py{install.OLD}", id="old"),
        pytest.param("copies", f"{install.MANIFEST}{install.NEW}", id="note"),
    ],
)
def test_a_directory_where_a_file_is_to_be_written_leaves_all_as_it_was(tool, keep, place):
    (tool / place / "full").mkdir(parents=True)
    before, branches = tree(tool), git(tool, "branch")
    with pytest.raises(errors.Error, match="everything is as it was"):
        install.install(tool, keep=keep)
    assert (tree(tool), git(tool, "branch")) == (before, branches)


@pytest.mark.parametrize(
    ("keep", "suffix"), [("copies", install.OLD), ("branch", install.OLD), ("branch", install.NEW)]
)
def test_an_uninstall_that_fails_leaves_the_tool_installed(tool, keep, suffix):
    before = tree(tool)
    install.install(tool, keep=keep)
    installed = tree(tool)
    in_the_way = tool / f"src/providers/kimi.py{suffix}"
    (in_the_way / "full").mkdir(parents=True)
    with pytest.raises(errors.Error, match="everything is as it was"):
        install.uninstall(tool)
    assert tree(tool) == installed
    shutil.rmtree(in_the_way)
    install.uninstall(tool)
    assert tree(tool) == before


FULL = """
import resource, sys
from exai_files.dropin import install
from exai_files.errors import Error
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    install.install(sys.argv[1])
except Error as error:
    print(error)
"""


@pytest.mark.parametrize("bytes_left", [0, 100, 1000, 7000])
def test_a_disk_that_takes_no_more_leaves_all_as_it_was(tool, bytes_left):
    before = tree(tool)
    said = run(tool, "-c", FULL, str(tool), str(bytes_left)).stdout
    assert "File too large; everything is as it was" in said
    assert (tree(tool), dirty(tool)) == (before, "")


class Failing:
    """Renames until its turn comes, and then never again... but back."""

    def __init__(self, monkeypatch, after, error):
        self.rename, self.left, self.error = Path.replace, after, error
        monkeypatch.setattr(Path, "replace", lambda source, target: self(source, target))

    def __call__(self, source, target):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return self.rename(source, target)


DISK = OSError(5, "Input/output error", "x")


@pytest.mark.parametrize(
    ("keep", "error"),
    [
        pytest.param("copies", DISK, id="copies"),
        pytest.param("branch", DISK, id="branch"),
        pytest.param("copies", KeyboardInterrupt(), id="Ctrl-C"),
    ],
)
def test_a_failure_at_any_rename_leaves_all_as_it_was(tool, keep, error, monkeypatch):
    before, branches = tree(tool), git(tool, "branch")
    for after in (0, 1, 2, 17, 64):
        with monkeypatch.context() as patch, pytest.raises((errors.Error, KeyboardInterrupt)):
            Failing(patch, after, error)
            install.install(tool, keep=keep)
        assert (tree(tool), git(tool, "branch")) == (before, branches), after
    install.install(tool, keep=keep)
    installed = tree(tool)
    for after in (0, 1, 2, 17, 63):
        with monkeypatch.context() as patch, pytest.raises((errors.Error, KeyboardInterrupt)):
            Failing(patch, after, error)
            install.uninstall(tool)
        assert tree(tool) == installed, after
    install.uninstall(tool)
    assert tree(tool) == before


KILLED = """
import os, sys
from pathlib import Path
from exai_files.dropin import install
rename, left = Path.replace, [int(sys.argv[3])]
def replace(source, target):
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
    return rename(source, target)
Path.replace = replace
getattr(install, sys.argv[2])(sys.argv[1])
"""


@pytest.mark.parametrize("act", ["install", "uninstall"])
@pytest.mark.parametrize("after", [1, 2, 31, 62])
def test_a_killed_process_is_undone_by_uninstall(tool, act, after):
    before = tree(tool)
    if act == "uninstall":
        install.install(tool)
    assert run(tool, "-c", KILLED, str(tool), act, str(after), check=False).returncode == 9
    assert tree(tool) != before
    install.status(tool)
    install.uninstall(tool)
    assert (tree(tool), dirty(tool)) == (before, "")


# ===== activate =====


ACTIVATED = """
import inspect, sys
import exai_files.dropin
places = {place.module: place for place in exai_files.dropin.activate()}
assert not [name for name in sys.modules if name.split(".")[0] == "src"], "nothing of the tool is imported for it"
assert {place.state for place in places.values()} == {"replaced", "missing"}
assert [name for name, place in places.items() if place.state == "missing"] == ["src.providers.file_base"]
from src.file_management.registry import FileRegistry
from src.file_management import registry, FileReference
from src.file_management.deduplication.hashing_service import HashingService  # which has never been importable
from src.providers.kimi import KimiModelProvider
from src.providers import glm
from utils.file.deduplication import FileDeduplicationManager
for ours in (FileRegistry, FileReference, HashingService, FileDeduplicationManager):
    assert ours.__module__.startswith("exai_files.dropin."), ours
assert registry.file_registry.FileRegistry is FileRegistry
assert str(inspect.signature(KimiModelProvider.upload_file)) == "(self, file_path: str, purpose: str = 'file-extract') -> str"
assert str(inspect.signature(glm.GLMModelProvider.upload_file)) == "(self, file_path: str, purpose: str = 'agent') -> str"
assert len(exai_files.dropin.activate()) == len(places)
exai_files.dropin.deactivate()
import src.file_management.errors as again
assert not hasattr(KimiModelProvider.upload_file, "__wrapped__")
from src.file_management.registry.file_registry import FileRegistry as Original
assert Original.__module__ == "src.file_management.registry.file_registry"
"""


def test_activated_the_tool_has_our_modules_and_no_file_is_touched(tool):
    before = tree(tool)
    run(tool, "-W", "error", "-c", ACTIVATED)
    assert (tree(tool), dirty(tool)) == (before, "")


LATE = """
import src.file_management.registry as registry
from src.file_management.registry import FileRegistry as taken
from src.providers.kimi import KimiModelProvider
import src.file_management
import exai_files.dropin
places = {place.module: place for place in exai_files.dropin.activate()}
assert "FileRegistry" in vars(registry) and registry.FileRegistry.__module__ == "exai_files.dropin.registry"
assert taken.__module__ == "src.file_management.registry.file_registry"
remark = places["src.file_management.registry.file_registry"].remark
assert remark == "imported before; the old objects stay in __main__", remark
assert "src.file_management" in places["src.file_management.models"].remark
assert hasattr(KimiModelProvider.upload_file, "__wrapped__")
exai_files.dropin.deactivate()
assert registry.FileRegistry is taken
assert not hasattr(KimiModelProvider.upload_file, "__wrapped__")
"""


def test_modules_that_were_imported_before_are_replaced_and_it_says_who_has_the_old_objects(tool):
    run(tool, "-c", LATE)


def test_activated_without_the_tool_everything_is_missing(tmp_path):
    code = "import exai_files.dropin as d; print({p.state for p in d.activate()}); import exai_files"
    assert run(tmp_path, "-c", code).stdout == "{'missing'}\n"


# ===== the places that users pass through =====

UPLOADS = """
import json, sys
if sys.argv[1] == "activated":
    import exai_files.dropin
    exai_files.dropin.activate()
from src.providers.glm import GLMModelProvider
from src.providers.kimi import KimiModelProvider
from tools.supabase_upload import upload_file_with_provider

class Rows:
    data = [{"id": "6f1c1d0e-8b0e-4f0c-9f62-1d2f0f9b7a11"}]
    table = insert = lambda self, _: self
    execute = lambda self: self

def by_the_hub(provider):
    return upload_file_with_provider(Rows(), path, provider, user_id="somebody")["provider_file_id"]

path, kimi_key, glm_key, another_key = sys.argv[2:]
kimi, glm, another = KimiModelProvider(kimi_key), GLMModelProvider(glm_key), KimiModelProvider(another_key)
print(kimi.upload_file(path), glm.upload_file(path), another.upload_file(path))
print(kimi.upload_file(path, purpose="assistants"), glm.upload_file(path, "file"), another.upload_file(path))
print(by_the_hub("kimi"), by_the_hub("glm"))
"""


@pytest.mark.parametrize("way", ["installed", "activated"])
def test_uploads_go_through_us_and_arrive_once_for_each_account(tool, sim, tmp_path, way):
    paper = tmp_path / "paper.txt"
    paper.write_text("a paper")
    keys = {"KIMI_API_KEY": sim.moonshot.api_key, "GLM_API_KEY": sim.zai.api_key}
    urls = {"KIMI_API_URL": sim.moonshot.base_url, "GLM_API_URL": sim.zai.base_url}
    if way == "installed":
        install.install(tool)
    said = run(tool, "-c", UPLOADS, way, str(paper), *keys.values(), "sk-another-account", **keys, **urls)
    first, again, by_the_hub = (line.split() for line in said.stdout.splitlines())
    assert first == again
    assert by_the_hub == first[:2]
    assert sorted(first) == sorted(file.id for file in (*sim.moonshot.files, *sim.zai.files))
    assert len(sim.truth(operation="upload")) == len({file.account for file in sim.moonshot.files}) + 1 == 3


def test_a_method_keeps_its_signature_and_is_wired_once():
    class KimiModelProvider:
        def upload_file(self, file_path: str, purpose: str = "file-extract") -> str:
            """Upload a file."""
            return f"the old way: {file_path} {purpose}"

    old = KimiModelProvider.upload_file
    assert wiring.wire(KimiModelProvider)
    wired = KimiModelProvider.upload_file
    assert wiring.wire(KimiModelProvider)
    assert KimiModelProvider.upload_file is wired
    assert inspect.signature(wired) == inspect.signature(old)
    assert (wired.__name__, wired.__doc__) == ("upload_file", "Upload a file.")
    wiring.unwire(KimiModelProvider)
    assert KimiModelProvider.upload_file is old
    assert not wiring.wire(type("GLMModelProvider", (), {}))


def test_the_daemon_starts_our_lifecycle_manager(tool):
    install.install(tool)
    code = """if True:
        import asyncio, importlib.util, os, signal, threading, logging
        logging.basicConfig(level=logging.INFO)
        spec = importlib.util.spec_from_file_location("daemon", "scripts/ws/run_ws_daemon.py")
        daemon = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(daemon)
        asyncio.Event.wait = lambda self: asyncio.sleep(0)
        asyncio.run(daemon.main_with_monitoring())
    """
    said = run(tool, "-c", code, **CREDENTIALS, EXAI_WS_PORT="0").stderr
    assert "FileLifecycleManager of exai_files.dropin.lifecycle_manager started" in said
    assert "FileLifecycleManager stopped" in said
