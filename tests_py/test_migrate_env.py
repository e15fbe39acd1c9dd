"""`exai-files migrate env`: several environment files become one, and no place in the code gets anything else."""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import stat
import sys
from datetime import datetime, timezone
from pathlib import Path

import dotenv
import pytest

import exai_files
import exai_files.cli.migrate_env
from exai_files.cli.main import main
from exai_files.errors import ConflictError, InvalidRequestError, SourceNotFoundError
from exai_files.migrate import env_file, env_writing
from exai_files.migrate.env import migrate
from exai_files.migrate.env_secrets import is_secret

TOOL = Path(__file__).parent / "exai_tool"
SETTINGS = TOOL / "src" / "settings"
EXAMPLE, DOCKER = TOOL / ".env.example", TOOL / ".env.docker.template"
MODULES = ("base", "core", "websocket", "providers", "timeouts", "storage", "monitoring")
NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
SEED = int(os.environ.get("EXAI_FILES_SEED", random.SystemRandom().randrange(10**6)))


@pytest.fixture
def plan(tmp_path):
    """Plans for code and environment files that are given as texts."""

    def plan(code: str | dict[str, str], *texts: str, **options):
        tree = tmp_path / "code"
        for name, text in (code if isinstance(code, dict) else {"app.py": code}).items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.env")
            files[-1].write_text(text)
        if "prefer" in options:
            options["prefer"] = files[options["prefer"]]
        return migrate(files, [tree], now=NOW, **options)

    return plan


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs `exai-files migrate env ARGS` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["migrate", "env", *map(str, args)])
        return (end.value.code, *capsys.readouterr())

    return run


def verdicts(migration) -> dict[str, str]:
    return {each.key: each.verdict for each in migration.keys}


def report(migration, key):
    return next(each for each in migration.keys if each.key == key)


def judged(text: str) -> dict[str, str | None]:
    return dict(dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False))


# ===== files =====


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("A=1\nB = 2\n", {"A": "1", "B": "2"}, id="plain"),
        pytest.param("export A=1\n export\tB=2", {"A": "1", "B": "2"}, id="export"),
        pytest.param("A=1  # one\nB=2#two\nC= # three\n", {"A": "1", "B": "2#two", "C": ""}, id="comments"),
        pytest.param("A='a # b'\nB=\"a\\nb\"\nC='a\\nb'\n", {"A": "a # b", "B": "a\nb", "C": "a\\nb"}, id="quotes"),
        pytest.param('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}, id="several lines"),
        pytest.param("A=C:\\tools\\\nB='C:\\\\'\n", {"A": "C:\\tools\\", "B": "C:\\"}, id="backslashes"),
        pytest.param("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}, id="CRLF"),
        pytest.param("\ufeffA=1\n", {"A": "1"}, id="byte order mark"),
        pytest.param("A=1\nA=2\nA=\n", {"A": ""}, id="the last one counts"),
        pytest.param("A\nB=1\n", {"A": None, "B": "1"}, id="no value"),
        pytest.param("=1\nA B\n'x\nB=1\n", {"B": "1"}, id="malformed"),
        pytest.param("'a b'=1\n", {"a b": "1"}, id="quoted key"),
    ],
)
def test_a_file_says_what_python_dotenv_reads(text, values):
    assert judged(text) == values
    assert {each.key: each.value for each in env_file.parse(text)[0]} == values


PIECES = [
    "A",
    "B_1",
    "=",
    "= ",
    "'",
    '"',
    "#",
    " # c",
    " ",
    "\n",
    "\r\n",
    "\t",
    "export ",
    "\\",
    "\\n",
    "\\'",
    "é",
    "\u00a0",
]


def test_whatever_a_file_has_python_dotenv_reads_the_same(caplog):
    print("seed", SEED)
    chance = random.Random(SEED)
    for _ in range(3000):
        text = "".join(chance.choices(PIECES, k=chance.randint(1, 14)))
        assert {each.key: each.value for each in env_file.parse(text)[0]} == judged(text), repr(text)


def test_what_is_written_is_read_by_python_dotenv():
    print("seed", SEED)
    chance = random.Random(SEED)
    pieces = ["a", " ", "#", "'", '"', "\\", "\n", "\r", "\t", "=", "x y", "$", "{", "ü"]
    values = {f"K{number}": "".join(chance.choices(pieces, k=chance.randint(0, 9))) for number in range(1000)}
    assert judged("".join(f"{env_file.assignment(key, value)}\n" for key, value in values.items())) == values


def test_references_are_resolved_as_python_dotenv_does_it(tmp_path, monkeypatch):
    (tmp_path / "1").write_text("HOST=db\nURL=pg://${HOST}/${NAME:-main}\nEMPTY=\nX=[${EMPTY}]\n")
    (tmp_path / "2").write_text("HOST=other\nAGAIN='${URL}' \nBOTH=${HOST}\n")
    for name in ("HOST", "URL", "NAME", "EMPTY", "X", "AGAIN", "BOTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NAME", "from-the-process")
    for name in ("1", "2"):
        dotenv.load_dotenv(tmp_path / name, override=True)
    ours = env_file.load([env_file.read(tmp_path / "1"), env_file.read(tmp_path / "2")])
    assert ours["URL"] == "pg://db/${NAME:-main}", "what is up to the process stays so"
    assert {key: value.replace("${NAME:-main}", "from-the-process") for key, value in ours.items()} == {
        key: os.environ[key] for key in ours
    }


# ===== what becomes of keys =====

READS = [
    pytest.param('os.getenv("K", "5")', "5", "dropped", id="default"),
    pytest.param('os.getenv("K", "5")', "6", "kept", id="another value"),
    pytest.param('os.getenv("K", 5)', "5", "kept", id="a text is no number"),
    pytest.param('int(os.getenv("K", 5))', "5", "dropped", id="int around"),
    pytest.param('int(os.getenv("K", "5"))', "05", "dropped", id="the same number"),
    pytest.param('float(os.environ.get("K", "0.5"))', ".50", "dropped", id="float around"),
    pytest.param('os.getenv("K")', "5", "kept", id="no default"),
    pytest.param('os.getenv("K", "")', "", "dropped", id="empty is the default"),
    pytest.param('os.getenv("K")', "", "kept", id="empty is not unset"),
    pytest.param('os.environ["K"]', "5", "kept", id="item"),
    pytest.param('os.environ.get("K", default())', "5", "kept", id="a default that is not known"),
    pytest.param('os.getenv("K", "true").lower() == "true"', "TRUE", "dropped", id="flag"),
    pytest.param(
        'os.getenv("K", "true").lower() in ("1", "true")', "yes", "kept", id="a word that the code does not know"
    ),
    pytest.param('os.getenv("K") or "5"', "5", "dropped", id="or"),
    pytest.param('(os.getenv("K") or "5").strip()', "5 ", "dropped", id="space that is cut off"),
    pytest.param('int(os.getenv("K", "4")) * 1024', "4", "dropped", id="arithmetic"),
    pytest.param('int(float(os.getenv("K", "4")) * 1.5)', "4.1", "dropped", id="cut to a whole number"),
    pytest.param('"K" in os.environ', "5", "kept", id="asked for"),
    pytest.param('Path(os.getenv("K", "/a"))', "/a", "dropped", id="around it something unknown"),
    pytest.param('os.getenv("K", "5"), os.getenv("K", "6")', "5", "kept", id="defaults differ"),
    pytest.param('os.getenv("K", "5"), os.environ.setdefault("K", "6")', "5", "kept", id="set by the code"),
    pytest.param('os.getenv("K", DEFAULT)', "7", "dropped", id="a constant"),
    pytest.param('os.getenv("K", CHANGED)', "7", "kept", id="a variable"),
    pytest.param('"5" if not os.getenv("K") else os.getenv("K")', "5", "dropped", id="a choice"),
    pytest.param('number("K", 5)', "5", "dropped", id="function"),
    pytest.param('number("K", default=6)', "5", "kept", id="function with another default"),
    pytest.param('number("K", 5)', "x", "dropped", id="function that passes over what is malformed"),
    pytest.param('Config.get_bool("K", True)', "yes", "dropped", id="class method"),
    pytest.param('Config.get_bool("K", True)', "ja", "kept", id="class method and an unknown word"),
    pytest.param('Config.get_list("K", ["a", "b"])', "a, b", "dropped", id="list"),
    pytest.param('doubled("K", 5)', "5", "dropped", id="function that calls another"),
    pytest.param('first("OTHER", "K")', "5", "kept", id="the first of several"),
    pytest.param('[os.getenv(f"{p}", d) for p, d in (("K", "5"), ("L", "6"))]', "5", "dropped", id="loop"),
    pytest.param('[number(n, d) for n, d in {"K": 5}.items()]', "5", "dropped", id="loop over a table"),
    pytest.param('settings("K")', "5", "kept", id="named to something unknown"),
    pytest.param('print("K is not set")', "5", "dropped", id="only spoken of"),
]

PREAMBLE = """
import os
from pathlib import Path
DEFAULT = "7"
CHANGED = "7"
CHANGED += "1"

def number(name, default):
    value = os.environ.get(name)
    try:
        return int(value) if value else default
    except ValueError:
        log.warning("%s: %r", name, value)
        return default

def doubled(key, default=0):
    return 2 * number(key, default)

def first(*names):
    for name in names:
        if os.getenv(name):
            return os.getenv(name)

class Config:
    @classmethod
    def get_bool(cls, key, default=False):
        value = os.getenv(key)
        if value is None:
            return default
        return value.lower() in ("true", "1", "yes", "on")

    @classmethod
    def get_list(cls, key, default=None, separator=","):
        value = os.getenv(key)
        if not value:
            return default or []
        return [part.strip() for part in value.split(separator) if part.strip()]

"""


@pytest.mark.parametrize(("expression", "value", "verdict"), READS)
def test_a_key_goes_only_where_the_code_gets_the_same_without(plan, expression, value, verdict):
    migration = plan(f"{PREAMBLE}result = {expression}\n", f"K='{value}'\n")
    assert verdicts(migration) == {"K": verdict}
    assert migration.differences(env_file.load([env_file.of(migration.environment)])) == []


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        pytest.param('for p in load():\n    os.getenv(f"{p}_KEY")', {"A_KEY", "B_KEY"}, id="f-string"),
        pytest.param('os.getenv("A" + name())', {"A_KEY", "A_URL"}, id="put together"),
        pytest.param('os.getenv("%s_URL" % name())', {"A_URL"}, id="percent"),
        pytest.param('os.getenv("{}_URL".format(name()))', {"A_URL"}, id="format"),
        pytest.param(
            'def f(p):\n    k = p.upper() + "_KEY"\n    return os.environ[k]\nf("b")',
            {"B_KEY"},
            id="through a function",
        ),
        pytest.param(
            'def f(p):\n    return os.getenv(f"{p}_KEY")\nf(name())', {"A_KEY", "B_KEY"}, id="of an unknown name"
        ),
        pytest.param('os.getenv("A_KEY" if x() else "B_KEY")', {"A_KEY", "B_KEY"}, id="one of two"),
        pytest.param('os.getenv({"a": "A_KEY"}[name()])', {"A_KEY"}, id="out of a table"),
        pytest.param(
            '{k: v for k, v in os.environ.items() if k.startswith("A_")}', {"A_KEY", "A_URL"}, id="by a prefix"
        ),
        pytest.param('for k in ["A_URL"]:\n    show(os.getenv(k))', {"A_URL"}, id="literal loop"),
        pytest.param('env = os.environ\nenv["A_URL"]', {"A_URL"}, id="another name of the environment"),
        pytest.param('env = dict(os.environ)\nenv.get("A_URL")', {"A_URL"}, id="a copy"),
        pytest.param("get = os.getenv\nget('A_URL')", {"A_URL"}, id="another name of getenv"),
        pytest.param("get = lambda key: os.getenv(key)\nget('A_URL')", {"A_URL"}, id="lambda"),
        pytest.param("class S(BaseSettings):\n    env_prefix = 'A_'\n    url: str = 'x'", {"A_URL"}, id="pydantic"),
        pytest.param("decouple('A_URL', default=1)", {"A_URL"}, id="a library"),
    ],
)
def test_a_key_whose_name_is_put_together_stays(plan, code, kept):
    migration = plan(f"import os\n{code}\n", "A_KEY=1\nA_URL=2\nB_KEY=3\nDEAD=4\n")
    assert {key for key, verdict in verdicts(migration).items() if verdict == "kept"} == kept


def test_a_function_of_another_module_is_followed(plan):
    code = {
        "tool/env.py": "import os\nBASE = 5\ndef number(name, default=BASE):\n    return int(os.getenv(name, default))\n",
        "tool/a.py": 'from tool.env import number as n\nA = n("A")\nB = n("B", 6)\n',
        "tool/b.py": 'from tool import env\nC = env.number("C", 7)\n',
    }
    migration = plan(code, "A=5\nB=5\nC=7\n")
    assert verdicts(migration) == {"A": "dropped", "B": "kept", "C": "dropped"}
    assert report(migration, "B").why == "read in tool/a.py:3"


def test_another_function_of_the_same_name_is_not_taken_for_it(plan):
    code = {
        "a.py": "def number(name, default):\n    return 5\n",
        "b.py": 'from lib import number\nX = number("K", 5)\n',
    }
    assert verdicts(plan(code, "K=5\n")) == {"K": "kept"}


def test_of_keys_that_stand_for_each_other_one_stays(plan):
    code = 'import os\nx = os.getenv("A") or os.getenv("B") or "y"\n'
    assert sorted(verdicts(plan(code, "A=x\nB=x\n")).values()) == ["dropped", "kept"]


@pytest.mark.parametrize(
    ("name", "text", "verdict"),
    [
        pytest.param("compose.yml", "environment:\n  - URL=${K}\n", "kept", id="compose"),
        pytest.param("compose.yml", "environment:\n  - URL=${K:-5}\n", "dropped", id="compose with the default"),
        pytest.param("compose.yml", "environment:\n  - URL=${K:-6}\n", "kept", id="compose with another default"),
        pytest.param("compose.yml", "environment:\n  K: 6\n", "kept", id="set by compose"),
        pytest.param("Dockerfile", "ENV K=6\n", "kept", id="Dockerfile"),
        pytest.param("run.sh", 'exec daemon --port "$K"\n', "kept", id="shell"),
        pytest.param("run.sh", "# K is not needed\n", "dropped", id="comment"),
        pytest.param("run.ps1", "$env:K\n", "kept", id="PowerShell"),
        pytest.param("run.bat", "echo %K%\n", "kept", id="batch file"),
        pytest.param("mcp.json", '{"env": {"K": "6"}}\n', "kept", id="JSON"),
        pytest.param("start", "#!/bin/sh\necho $K\n", "kept", id="script without suffix"),
        pytest.param("README.md", "K is the port\n", "dropped", id="document"),
        pytest.param("venv/lib/x.py", 'import os\nos.environ["K"]\n', "dropped", id="installed code"),
        pytest.param(
            "tests/test_x.py", 'def test(patch):\n    patch.setenv("K", "1")\n', "dropped", id="set by a test"
        ),
    ],
)
def test_scripts_and_compose_files_count_too(plan, name, text, verdict):
    code = {name: text, "app.py": 'import os\nos.getenv("K", "5")\n', "venv/pyvenv.cfg": ""}
    assert verdicts(plan(code, "K=5\n")) == {"K": verdict}


@pytest.mark.parametrize("key", ["PYTHONUNBUFFERED", "HTTPS_PROXY", "OPENAI_ORG_ID", "COMPOSE_PROJECT_NAME"])
def test_what_python_a_library_or_docker_reads_is_not_dead(plan, key):
    assert verdicts(plan("", f"{key}=x\n")) == {key: "kept"}


# ===== conflicts =====


def test_the_file_named_last_wins_and_the_report_says_so(plan):
    migration = plan('import os\nos.environ["K"]', "K=1\n", "# two\nK=2\n")
    assert report(migration, "K").value == "2"
    conflict = report(migration, "K").conflict
    assert conflict.winner.endswith("1.env:2 (2), named last")
    assert [loser.rpartition("/")[2] for loser in conflict.losers] == ["0.env:1 (1)"]


def test_a_preferred_file_wins(plan):
    migration = plan('import os\nos.environ["K"]', "K=1\n", "K=2\n", prefer=0)
    assert "K=1" in migration.environment
    assert report(migration, "K").conflict.winner.endswith("0.env:1 (1), preferred")


def test_the_same_value_in_both_is_no_conflict(plan):
    assert report(plan("", "K=1\n", "K='1'\n"), "K").conflict is None


def test_a_duplicate_within_a_file_is_reported(plan):
    why = report(plan('import os\nos.environ["K"]', "K=1\nK=2\n"), "K").why
    assert why.endswith("0.env has it on lines 1, 2, of which the last counts")


# ===== fixes =====


@pytest.mark.parametrize(
    ("code", "text", "after"),
    [
        pytest.param('os.getenv("KIMI_API_KEY")', "MOONSHOT_API_KEY=a1", {"KIMI_API_KEY": "a1"}, id="alias"),
        pytest.param('os.getenv("GLM_API_KEY")', "ZAI_API_KEY=a1\nGLM_API_KEY=", {"GLM_API_KEY": "a1"}, id="empty"),
        pytest.param(
            'os.getenv("JWT_SECRET_KEY")', "JWT_SECRET=a\nJWT_SECRET_KEY=b", {"JWT_SECRET_KEY": "b"}, id="both"
        ),
        pytest.param(
            'os.getenv("KIMI_API_KEY"), os.getenv("MOONSHOT_API_KEY")',
            "MOONSHOT_API_KEY=a1",
            {"KIMI_API_KEY": "a1", "MOONSHOT_API_KEY": "a1"},
            id="alias that is read, too",
        ),
        pytest.param('int(os.getenv("K", "5"))', "K=20# MB", {"K": "20"}, id="comment in a number"),
        pytest.param('int(os.getenv("K", "5"))', "K=   # MB", {}, id="comment instead of a number"),
        pytest.param('float(os.getenv("K", "5"))', "K=ten", {}, id="no number"),
        pytest.param(
            'int(os.environ["WORKFLOW_TOOL_TIMEOUT_SECS"])',
            "WORKFLOW_TOOL_TIMEOUT_SECS=45",
            {"WORKFLOW_TOOL_TIMEOUT_SECS": "46"},
            id="time-out that is cut",
        ),
    ],
)
def test_what_the_code_cannot_work_with_is_mended_and_listed(plan, code, text, after):
    migration = plan(f"import os\nx = {code}\n", f"{text}\n")
    assert judged(migration.environment) == after
    assert [each for each in migration.keys if each.fix]
    assert migration.differences(after) == []


def test_a_daemon_that_did_not_start_starts(plan):
    code = (SETTINGS / "timeouts.py").read_text()
    value = judged(plan(code, "WORKFLOW_TOOL_TIMEOUT_SECS=45\n").environment)["WORKFLOW_TOOL_TIMEOUT_SECS"]
    assert int(int(value) * 1.5) / int(value) >= 1.5 > int(45 * 1.5) / 45


# ===== our configuration file =====

MOVES = [
    ("KIMI_BASE_URL=https://kimi.example.com/v1/", {"platforms.moonshot.base_url": "https://kimi.example.com/v1"}),
    ("KIMI_BASE_URL=https://api.moonshot.cn/v1", {"platforms.moonshot.region": "cn"}),
    ("KIMI_BASE_URL=https://api.moonshot.ai/v1", {}),
    ("KIMI_BASE_URL=http://kimi.example.com/v1", {}),
    ("KIMI_BASE_URL=https://10.0.0.1/v1", {}),
    ("KIMI_BASE_URL=https://[::1", {}),
    ("KIMI_BASE_URL=https://me:pw@kimi.example.com", {}),
    ("KIMI_BASE_URL=http://localhost:8000/v1", {"platforms.moonshot.base_url": "http://localhost:8000/v1"}),
    (
        "GLM_API_URL=https://glm.example.com\nGLM_BASE_URL=https://b.example.com",
        {"platforms.zai.base_url": "https://glm.example.com"},
    ),
    ("REDIS_URL=redis://redis:6379/0", {"redis.url": "redis://redis:6379/0"}),
    ("REDIS_URL=redis://:pw@redis:6379/0", {}),
    ("REDIS_URL=${OTHER}", {}),
    ("SUPABASE_DB_URL=postgresql://db.example.com/postgres", {"registry.url": "postgresql://db.example.com/postgres"}),
    ("SUPABASE_DB_URL=postgresql://u:pw@db.example.com/postgres", {}),
    ("KIMI_FILES_UPLOAD_TIMEOUT_SECS=120", {"http.total_timeout": 120}),
    ("KIMI_FILES_UPLOAD_TIMEOUT_SECS=0", {}),
    ("KIMI_FILES_UPLOAD_TIMEOUT_SECS=nan", {}),
    ("FILE_UPLOAD_TIMEOUT_SECS=60.5\nUPLOAD_TIMEOUT=300", {"http.total_timeout": 60.5}),
    (
        "KIMI_FILES_MAX_PARALLEL=2\nMAX_CONCURRENT_UPLOADS=5",
        {"platforms.moonshot.concurrency": 2, "platforms.zai.concurrency": 5},
    ),
    ("PREFERRED_PROVIDER=Kimi", {"default_platforms": ["moonshot"]}),
    ("PREFERRED_PROVIDER=nobody", {}),
    (
        "FILE_RETENTION_DAYS=30",
        {"lifecycle.rules.retention.keep_within": 30 * 86400, "lifecycle.rules.retention.then": "delete"},
    ),
    ('JWT_ISSUER=exai\nJWT_AUDIENCE="a b"', {"access.jwt_issuer": "exai", "access.jwt_audience": "a b"}),
    ("JWT_GRACE_PERIOD_DAYS=14", {"access.grace_until": "2026-11-15T00:00:00Z"}),
    ("DEFAULT_USER_QUOTA_GB=10", {}),
]


@pytest.mark.parametrize(("text", "settings"), [pytest.param(*each, id=each[0].replace("\n", " ")) for each in MOVES])
def test_settings_of_ours_are_taken_by_a_client(plan, tmp_path, monkeypatch, text, settings):
    for name in ("MOONSHOT_BASE_URL", "KIMI_BASE_URL", "GLM_API_URL", "ZAI_BASE_URL", "JWT_ISSUER", "JWT_AUDIENCE"):
        monkeypatch.delenv(name, raising=False)
    migration = plan("", f"{text}\n")
    path = tmp_path / "exai-files.toml"
    path.write_text(migration.settings)
    # A client would look for the database.
    place = {} if "registry.url" in settings else {"registry": ":memory:"}
    if place:
        with exai_files.Client(config_file=path, **place) as client:
            found = {each.path: each.value for each in client.settings() if each.origin.startswith(str(path))}
        assert found == settings
    else:
        assert f'url = "{settings["registry.url"]}"' in migration.settings
    assert {path for key in migration.keys for path in key.settings if "quotas" not in path} == set(settings)


def test_quotas_are_left_for_somebody_to_decide(plan):
    migration = plan("", "DEFAULT_USER_QUOTA_GB=10\nDEFAULT_MAX_FILE_SIZE_BYTES=1048576\n")
    assert "# max_bytes = 10737418240" in migration.settings
    assert "each upload has to say whose it is" in report(migration, "DEFAULT_USER_QUOTA_GB").why


def test_a_key_that_the_code_still_reads_is_in_both(plan):
    migration = plan('import os\nos.environ["JWT_ISSUER"]\n', "JWT_ISSUER=exai\n")
    assert (report(migration, "JWT_ISSUER").verdict, report(migration, "JWT_ISSUER").settings) == (
        "kept",
        ("access.jwt_issuer",),
    )


# ===== the tool's files =====


@pytest.mark.parametrize(
    ("file", "lines", "keys", "dead", "equal", "kept"),
    [
        pytest.param(DOCKER, 456, 146, 17, 69, 60, id="docker"),
        pytest.param(EXAMPLE, 471, 146, 23, 76, 47, id="example"),
    ],
)
def test_a_template_alone_keeps_what_differs(file, lines, keys, dead, equal, kept):
    migration = migrate([file], [SETTINGS])
    whys = [each.why for each in migration.keys]
    assert len(file.read_text().splitlines()) == lines
    assert len(migration.keys) == keys
    assert sum("read nowhere" in why for why in whys) == dead
    assert sum("gets without it" in why for why in whys) == equal
    assert migration.count("kept") == kept


@pytest.mark.parametrize("code", [SETTINGS, TOOL], ids=["settings", "the whole tool"])
def test_both_templates_become_one_file_below_two_hundred_lines(code):
    migration = migrate([EXAMPLE, DOCKER], [code])
    assert migration.environment.count("\n") < 100
    assert len(migration.keys) == 160
    conflicts = {each.key for each in migration.keys if each.conflict}
    assert len([key for key in conflicts if not key.startswith("SUPABASE_")]) == 22
    assert len(conflicts) == 25
    assert migration.differences(judged(migration.environment)) == []


def everything(values: dict[str, str]) -> dict[str, object]:
    """What the tool's settings really are in a process that has loaded these values."""
    before = dict(os.environ)
    os.environ.update(values)
    found: dict[str, object] = {}
    try:
        for name in MODULES:
            sys.modules.pop(f"src.settings.{name}", None)
            try:
                module = importlib.import_module(f"src.settings.{name}")
            except (ValueError, KeyError) as error:
                found[name] = repr(type(error))
                continue
            functions = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__]
            found[name] = {key: str(value) for key, value in vars(module).items() if key.isupper()}
            for each in functions:
                if isinstance(each, type):
                    found[f"{name}.{each.__name__}"] = {key: str(v) for key, v in vars(each).items() if key.isupper()}
                elif callable(each) and each.__code__.co_argcount == 0 and each.__name__ != "load_env":
                    found[f"{name}.{each.__name__}"] = outcome(each)
            if name == "core":
                found["drives"] = module.PathConfig.drive_mappings(), module.PathConfig.allowed_prefixes()
            if name == "storage":
                found["supabase"] = vars(module.SupabaseConfig()), module.SupabaseConfig().is_enabled
        return found
    finally:
        os.environ.clear()
        os.environ.update(before)


def outcome(function):
    try:
        return function()
    except Exception as error:
        return type(error)


@pytest.fixture
def tool(monkeypatch):
    """Makes the fixture tool importable, in a process without settings of its own."""
    monkeypatch.syspath_prepend(str(TOOL))
    for key in {*judged(EXAMPLE.read_text()), *judged(DOCKER.read_text())}:
        monkeypatch.delenv(key, raising=False)
    for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
        del sys.modules[name]


@pytest.mark.parametrize("files", [(EXAMPLE, DOCKER), (DOCKER,)], ids=["both", "docker"])
def test_the_tool_really_has_the_same_settings_afterwards(tool, files):
    before = {key: value for file in files for key, value in dotenv.dotenv_values(file).items()}
    assert everything(judged(migrate(files, [SETTINGS]).environment)) == everything(before)


def test_whatever_the_values_are_the_tool_has_the_same_settings_afterwards(tool, tmp_path):
    print("seed", SEED)
    chance = random.Random(SEED)
    keys = sorted({*judged(EXAMPLE.read_text()), *judged(DOCKER.read_text())})
    usual = {**judged(EXAMPLE.read_text()), **judged(DOCKER.read_text())}
    for number in range(4):
        values = {
            key: chance.choice(["0", "1", "true", "5", "30", "x", usual[key]]) for key in chance.sample(keys, 110)
        }
        path = tmp_path / f"{number}.env"
        path.write_text("".join(f"{env_file.assignment(key, value)}\n" for key, value in values.items()))
        migration = migrate([path], [SETTINGS])
        fixes = {each.key for each in migration.keys if each.fix}
        after = judged(migration.environment)
        # A fix is another value, on purpose.
        mended = {key: value for key, value in values.items() if key not in fixes}
        mended |= {key: after[key] for key in fixes if key in after}
        assert everything(after) == everything(mended)


# ===== secrets =====

SECRETS = {
    "KIMI_API_KEY": "sk-0123456789abcdef0123",
    "EXAI_WS_TOKEN": "482910",
    "SUPABASE_DB_URL": "postgresql://postgres:hunter22hunter@db.example.com:5432/postgres",
    "REDIS_URL": "redis://:correct-horse-battery@redis:6379/0",
    "REDIS_PASSWORD": "correct-horse-battery",
    "UNSUSPECTED": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "ALSO_ONE": "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp",
    "PIECE": "prefix-correct-horse-battery-suffix",
    "SENTRY": "https://key:password1234@sentry.example.com/1",
}
PARTS = (*SECRETS.values(), "hunter22hunter", "correct-horse-battery", "password1234", "another-secret")


@pytest.fixture
def secretive(tmp_path):
    code = tmp_path / "app.py"
    code.write_text("import os\n" + "".join(f'os.environ["{key}"]\n' for key in SECRETS) + 'os.getenv("P", "1")\n')
    for name, values in (("a.env", dict.fromkeys(SECRETS, "another-secret")), ("b.env", SECRETS)):
        (tmp_path / name).write_text(
            "".join(f"{key}={value}\n" for key, value in values.items()) + "P=1\nsk-oops here\n"
        )
    return [tmp_path / "a.env", tmp_path / "b.env", "--code", code]


def assert_silent(*texts: str) -> None:
    for part in PARTS:
        for text in texts:
            assert part not in text


@pytest.mark.parametrize("options", [["--dry-run"], ["--dry-run", "--json"], ["--check"], ["--check", "--json"]])
def test_no_secret_is_shown(run, secretive, options):
    code, out, err = run(*secretive, *options)
    assert code == 0
    assert_silent(out, err)


def test_no_secret_is_shown_where_it_differs(run, secretive, tmp_path):
    run(*secretive)
    new = tmp_path / ".env.new"
    new.write_text(new.read_text().replace("hunter22hunter", "another-secret"))
    for options in (["--check"], ["--check", "--json"]):
        code, out, err = run(*secretive, *options)
        assert code == 10
        assert "SUPABASE_DB_URL" in out
        assert_silent(out, err)


def test_secrets_are_in_the_new_file_alone_and_it_is_its_owners(run, secretive, tmp_path):
    run(*secretive)
    assert judged((tmp_path / ".env.new").read_text()) == SECRETS
    assert stat.S_IMODE((tmp_path / ".env.new").stat().st_mode) == 0o600
    assert_silent((tmp_path / "exai-files.toml").read_text())


def test_no_secret_is_in_a_repr(secretive):
    files = [Path(each) for each in secretive[:2]]
    migration = migrate(files, [Path(secretive[3])])
    assert_silent(repr(migration), *(repr(env_file.read(file)) for file in files))


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("KIMI_API_KEY", "", True),
        ("MY_PASSWORD", "12345", True),
        ("JWT_SECRET_KEY", "x", True),
        ("KIMI_CACHE_TOKEN_TTL_SECS", "180", False),
        ("DEFAULT_MAX_OUTPUT_TOKENS", "4096", False),
        ("KIMI_BASE_URL", "https://api.moonshot.ai/v1", False),
        ("KIMI_DEFAULT_MODEL", "kimi-k2-0905-preview", False),
        ("EX_DRIVE_MAPPINGS", '{"C:": "/mnt/c"}', False),
        ("DATABASE", "host=db password=hunter2", True),
        ("CALLBACK", "https://example.com/?token=abc", True),
    ],
)
def test_secrets_are_told_by_name_and_by_look(key, value, secret):
    assert is_secret(key, value) is secret


# ===== the command =====


@pytest.fixture
def small(tmp_path):
    """An environment file and code, as arguments."""
    (tmp_path / "old.env").write_text("PORT=8079\nHOST=0.0.0.0\nDEAD=1\nZHIPUAI_BASE_URL=https://glm.example.com\n")
    (tmp_path / "app.py").write_text('import os\nos.getenv("PORT", "8079")\nos.getenv("HOST", "127.0.0.1")\n')
    return ["old.env", "--code", "app.py"]


def test_the_report_says_what_becomes_of_each_key_and_why(run, small, tmp_path):
    code, out, _ = run(*small)
    assert code == 0
    assert [line.split(maxsplit=4) for line in out.splitlines()] == [
        ["DEAD", "dropped", "1", "old.env:3", "read nowhere"],
        ["HOST", "kept", "0.0.0.0", "old.env:2", "read in app.py:3"],
        ["PORT", "dropped", "8079", "old.env:1", "what app.py:2 gets without it"],
        [
            "ZHIPUAI_BASE_URL",
            "moved",
            "https://glm.example.com",
            "old.env:4",
            "now platforms.zhipu.base_url; read nowhere",
        ],
        ["1", "kept,", "1", "moved,", "2 dropped, 0 conflicts, 0 fixes"],
        [".env.new:", "5", "lines,", "exai-files.toml:", "5 lines"],
    ]
    assert judged((tmp_path / ".env.new").read_text()) == {"HOST": "0.0.0.0"}


def test_the_report_is_json_too(run, small):
    code, out, _ = run(*small, "--json", "--dry-run")
    *keys, end = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(each["key"], each["verdict"], each["schema"]) for each in keys][:2] == [
        ("DEAD", "dropped", 1),
        ("HOST", "kept", 1),
    ]
    assert end["summary"] == {"kept": 1, "moved": 1, "dropped": 2, "conflicts": 0, "fixes": 0}


def test_a_dry_run_writes_nothing(run, small, tmp_path):
    before = sorted(tmp_path.iterdir())
    run(*small, "--dry-run")
    run(*small, "--check")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_replaced_only_by_force(run, small, tmp_path):
    (tmp_path / "exai-files.toml").write_text("mine")
    code, _, err = run(*small)
    assert (code, err) == (2, "exai-files: exai-files.toml is there already; --force replaces it\n")
    assert not (tmp_path / ".env.new").exists()
    assert run(*small, "--force")[0] == 0
    assert "mine" not in (tmp_path / "exai-files.toml").read_text()


@pytest.mark.parametrize("options", [["--output", "old.env"], ["--toml", "./old.env"], ["--output", "link"]])
def test_the_old_files_are_never_written_over(run, small, tmp_path, options):
    (tmp_path / "link").symlink_to("old.env")
    before = (tmp_path / "old.env").read_bytes()
    assert run(*small, *options, "--force")[0] == 2
    assert (tmp_path / "old.env").read_bytes() == before


def test_nothing_is_left_behind_where_a_file_cannot_be_written(run, small, tmp_path):
    code, _, err = run(*small, "--toml", "no/such/place.toml")
    assert code == 1
    assert "No such file or directory" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py", "old.env"]


def test_check_finds_what_was_changed_by_hand(run, small, tmp_path):
    run(*small)
    assert run(*small, "--check")[:2] == (0, "0 of 2 places that read a key get something else than before\n")
    new = tmp_path / ".env.new"
    new.write_text(new.read_text().replace("0.0.0.0", "::"))
    code, out, _ = run(*small, "--check")
    assert code == 10
    assert out.splitlines()[0].split() == ["HOST", "app.py:3", "0.0.0.0", "::"]


def test_check_finds_a_key_that_was_added_by_hand(run, small, tmp_path):
    (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text() + 'os.getenv("NEW", "a")\n')
    run(*small)
    with (tmp_path / ".env.new").open("a") as file:
        file.write("NEW=a\nALSO=1\n")
    assert run(*small, "--check")[0] == 0
    with (tmp_path / ".env.new").open("a") as file:
        file.write("NEW=b\n")
    assert run(*small, "--check")[0] == 10


def test_check_lists_the_fixes(run, tmp_path):
    (tmp_path / "old.env").write_text("WORKFLOW_TOOL_TIMEOUT_SECS=45\n")
    (tmp_path / "app.py").write_text('import os\nint(os.environ["WORKFLOW_TOOL_TIMEOUT_SECS"])\n')
    code, out, _ = run("old.env", "--code", "app.py", "--check")
    assert code == 0
    assert out.startswith("FIX WORKFLOW_TOOL_TIMEOUT_SECS  46 from now on")


# ===== bad input =====


@pytest.mark.parametrize(
    ("files", "data", "error", "said"),
    [
        pytest.param(["none.env"], b"", SourceNotFoundError, "none.env: No such file or directory", id="no file"),
        pytest.param(["a.env"], b"A=1\nB=\xff\n", InvalidRequestError, "a.env:2: this is not UTF-8", id="not UTF-8"),
        pytest.param(["a.env"], b"A=1\nB=x\0y\n", InvalidRequestError, "a.env:2: there is a NUL", id="NUL"),
        pytest.param(["a.env", "./a.env"], b"", InvalidRequestError, "a.env is named twice", id="named twice"),
        pytest.param(["."], b"", InvalidRequestError, "Is a directory", id="directory"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch, files, data, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.env").write_bytes(data)
    with pytest.raises(error, match=said.replace(".", r"\.")):
        migrate([Path(file) for file in files], [tmp_path])


def test_code_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.env").write_text("")
    with pytest.raises(SourceNotFoundError, match="there is no such file or directory"):
        migrate([tmp_path / "a.env"], [tmp_path / "none"])


def test_a_file_to_prefer_has_to_be_one_of_them(tmp_path):
    (tmp_path / "a.env").write_text("")
    with pytest.raises(InvalidRequestError, match="is to be preferred, and is none of the files"):
        migrate([tmp_path / "a.env"], [tmp_path], prefer=tmp_path / "b.env")


def test_doubtful_lines_are_warned_of(plan):
    migration = plan("", "A=1\nthis is none\nB\nC=  # what?\n")
    assert [warning.rpartition("/")[2] for warning in migration.warnings] == [
        "0.env:2: this is no assignment, and is passed over",
        "0.env:3: B has no =, and sets nothing",
        "0.env:4: C is read otherwise by python-dotenv before 1.2.4",
    ]


def test_code_that_cannot_be_parsed_is_warned_of_and_its_keys_stay(plan):
    migration = plan({"a.py": 'import os\nos.getenv("A", "1"\n', "b.py": "x = 1"}, "A=1\nB=2\n")
    assert migration.warnings[0].startswith("a.py:2: this is not Python")
    assert verdicts(migration) == {"A": "kept", "B": "dropped"}


def test_reads_that_cannot_be_followed_are_warned_of_and_named_keys_stay(plan):
    migration = plan('import os\nNAMES = load("A")\nfor n in NAMES:\n    os.getenv(n)\n', "A=1\nB=2\n")
    assert migration.warnings == (
        "app.py:4: which keys are read here is not known; a key counts as read if the code names it",
    )
    assert verdicts(migration) == {"A": "kept", "B": "dropped"}


def test_code_is_never_run(plan, tmp_path):
    mark = tmp_path / "ran"
    code = f'import os, pathlib\npathlib.Path({str(mark)!r}).touch()\ndef f(x=open({str(mark)!r}, "w")):\n    return os.getenv("K", x)\n'
    plan(code, "K=1\n")
    assert not mark.exists()


@pytest.mark.parametrize(
    "expression",
    [
        'os.getenv("K", "a" * 10**9)',
        'os.getenv("K", str(9**9**9))',
        'os.getenv("K", "%999999999d" % 5)',
        'loop(os.getenv("K", "1"))',
        'os.getenv("K", A)',
    ],
)
def test_code_that_never_ends_is_given_up(plan, expression):
    code = f"import os\nA = B\nB = A\ndef loop(x):\n    return loop(x) + loop(x)\nx = {expression}\n"
    assert verdicts(plan(code, "K=1\n"))["K"] in ("kept", "dropped")


def test_references_to_the_process_stay_what_they_are(plan):
    migration = plan('import os\nos.environ["A"], os.environ["LEVEL"]\n', "A=${LEVEL}-x\nLEVEL=2\n")
    assert env_file.load([env_file.of(migration.environment)]) == {"A": "${LEVEL}-x", "LEVEL": "2"}


def test_a_place_that_is_taken_in_between_is_not_written_over(plan, tmp_path):
    migration = plan("", "A=1\n")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(ConflictError):
        env_writing.write(migration, taken, tmp_path / "x.toml", sources=[])
    assert taken.read_text() == "mine"
