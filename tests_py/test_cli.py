"""The command, run as users run it: a process of its own, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import databases
import pytest
from waiting import deadline

ROOT = Path(__file__).parent.parent


@pytest.fixture
def environment(sim, tmp_path):
    """The simulator's, with a home of its own."""
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH")
        },
        "HOME": str(tmp_path / "home"),
        "MOONSHOT_BASE_URL": sim.moonshot.base_url,
        "MOONSHOT_API_KEY": sim.moonshot.api_key,
        "ZAI_BASE_URL": sim.zai.base_url,
        "ZAI_API_KEY": sim.zai.api_key,
        "EXAI_FILES_RETRY__BASE": "0.01",
        "EXAI_FILES_RETRY__COMMIT_HORIZON": "0.1",
        **({"EXAI_FILES_REGISTRY__URL": databases.place(tmp_path)} if databases.IS_POSTGRES else {}),
    }


@pytest.fixture
def run_in_shell(environment, tmp_path):
    """Runs a line of shell; the exit code is that of `exai-files`."""

    def run(line: str) -> subprocess.CompletedProcess[str]:
        line = f"'{sys.executable}' -m exai_files {line}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False
        )

    return run


@pytest.fixture
def run(environment, tmp_path):
    """Runs `exai-files ARGS` in that environment."""

    def run(*args: str, stdin: bytes | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "exai_files", *args],
            input=stdin,
            capture_output=True,
            env={**environment, **more},
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        return subprocess.CompletedProcess(args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def run_at_terminal(environment, tmp_path):
    """Runs it with somebody there who can be asked, and types this."""

    def run(typed: str, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        keyboard, terminal = os.openpty()
        os.write(keyboard, typed.encode())
        done = subprocess.run(
            [sys.executable, "-m", "exai_files", *args],
            stdin=terminal,
            capture_output=True,
            text=True,
            env={**environment, **more},
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        os.close(terminal)
        os.close(keyboard)
        return done

    return run


@pytest.fixture
def registry(environment, tmp_path):
    """Where the command keeps what it knows."""
    default = tmp_path / "home" / ".local" / "share" / "exai-files" / "registry.db"
    return environment.get("EXAI_FILES_REGISTRY__URL", str(default))


@pytest.fixture
def keeps(tmp_path):
    """Settings with which copies are kept and the audit log is signed, and nothing is finished in passing."""
    return {
        "EXAI_FILES_COPIES__PLACE": str(tmp_path / "copies"),
        "EXAI_FILES_AUDIT__KEY_FILE": str(tmp_path / "audit.key"),
        "EXAI_FILES_RECOVERY__EVERY": "0s",
    }


LONG_AGO = "'epoch'" if databases.IS_POSTGRES else "0"


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.txt"
    path.write_text("on paper")
    return path


def test_the_whole_way_of_a_file(run, sim, paper):
    uploaded = run("upload", str(paper), "--to", "moonshot", "--to", "zai")
    assert (uploaded.returncode, uploaded.stderr) == (0, "")
    assert "paper.txt  8 B  moonshot ✓  zai ✓" in uploaded.stdout
    assert "moonshot =  zai =" in run("upload", str(paper), "--to", "moonshot", "--to", "zai").stdout
    digest = uploaded.stdout.split()[0]
    assert digest in run("ls").stdout
    assert sim.moonshot.files[0].id in run("stat", digest).stdout
    assert run("text", "paper.txt").stdout == "on paper\n"
    assert "rm deletes from platforms: add --yes" in run("rm", digest, stdin=b"").stderr
    assert "would be deleted" in run("rm", digest, "--dry-run").stdout
    assert len(sim.moonshot.files) == 1
    gone = run("rm", digest, "--platform", "zai", "--yes")
    assert (gone.returncode, gone.stdout) == (0, "paper.txt: deleted; still on moonshot\n")
    assert (len(sim.moonshot.files), len(sim.zai.files)) == (1, 0)


def test_json_is_one_object_a_line_with_a_schema(run, paper):
    for args in (
        ("upload", str(paper), "--to", "moonshot", "--json"),
        ("ls", "--json"),
        ("stat", "paper.txt", "--json"),
        ("ls", "--remote", "--platform", "moonshot", "--json"),
        ("platforms", "ls", "--json"),
        ("platforms", "info", "zai", "--json"),
        ("config", "show", "--json"),
        ("upload", str(paper), "--to", "zai", "--dry-run", "--json"),
    ):
        done = run(*args)
        assert done.returncode == 0, (args, done.stderr)
        lines = done.stdout.splitlines()
        assert lines
        for line in lines:
            assert json.loads(line)["schema"] == 1, args


def test_what_time_asks_for_is_json_with_a_schema_too(run, sim, paper, registry, keeps):
    def lines(*args):
        done = run(*args, "--json", **keeps)
        said = list(map(json.loads, done.stdout.splitlines()))
        assert said, (args, done.stderr)
        assert {line["schema"] for line in said} == {1}, args
        return said

    assert run("upload", str(paper), "--to", "moonshot", "--to", "zai", **keeps).returncode == 0
    (held,) = lines("hold", "paper.txt")
    assert lines("holds", "paper.txt") == [held]
    assert [hold["id"] for hold in lines("stat", "paper.txt")[0]["holds"]] == [held["id"]]
    assert run("release", held["id"]).returncode == 0
    for args in (
        ("status",),
        ("check", "paper.txt"),
        ("copies", "check"),
        ("copies", "gc", "--dry-run"),
        ("lifecycle", "explain", "paper.txt"),
        ("lifecycle", "archive", "paper.txt", "--dry-run"),
        ("lifecycle", "erase", "paper.txt", "--dry-run"),
        ("mv", "paper.txt", "--from", "zai", "--to", "moonshot", "--dry-run"),
        ("audit", "tail"),
        ("audit", "query", "--action", "upload"),
        ("audit", "verify"),
    ):
        lines(*args)
    assert json.loads(run("audit", "prove", "1", **keeps).stdout)["schema"] == 1
    databases.query(registry, f"UPDATE file_hashes SET keep_until = {LONG_AGO}")
    assert lines("lifecycle", "apply", "--dry-run")[0]["step"] == "expire"
    assert lines("lifecycle", "archive", "paper.txt", "--platform", "zai", "--yes")[0]["name"] == "paper.txt"
    databases.query(
        registry,
        f"UPDATE platform_file_registry SET status = 'deleting', updated_at = {LONG_AGO} WHERE status = 'active'",
    )
    (unfinished,) = lines("recover", "list")
    assert lines("recover", "explain", unfinished["id"])[0]["digest"] == unfinished["digest"]
    assert lines("recover")[0]["result"] == "finished"
    assert lines("lifecycle", "erase", "paper.txt", "--yes")[0]["had_copy"]


def test_commands_of_upkeep_take_good_input_and_explain_bad(
    run_in_shell, run, sim, paper, registry, keeps, environment
):
    environment |= keeps
    run("upload", str(paper), "--to", "moonshot")
    pin = run("hold", "paper.txt").stdout.strip()
    other = run("upload", "-", "--name", "other.txt", "--to", "zai", stdin=b"other").stdout.split()[0]
    databases.query(
        registry,
        f"UPDATE platform_file_registry SET status = 'deleting', updated_at = {LONG_AGO} WHERE remote_name LIKE 'other%'",
    )
    unfinished = json.loads(run("recover", "list", "--json").stdout)["id"]
    for command, code, said in [
        ("status", 0, "moonshot  default  1 of 1000  8 B of 10.7 GB"),
        ("status --jsn", 2, "No such option"),
        ("recover list", 0, f"delete  {unfinished}  zai  other"),
        ("recover list --dead", 0, ""),
        ("recover retry", 2, "Missing argument"),
        ("recover retry nothing", 4, "nothing"),
        (f"recover retry {unfinished}", 0, ""),
        ("recover abandon nothing", 4, "nothing"),
        (f"recover abandon {unfinished}", 0, ""),
        ("recover --timeout nan", 2, "not possible"),
        ("watch --once --every 0.5", 2, "x>=1"),
        ("watch --once --every nan", 2, "not possible"),
        ("watch --once --max-lost -1", 2, "x>=0"),
        ("watch --once --samples -1", 2, "x>=0"),
        ("watch --once", 0, ""),
        ("hold paper.txt --legal --reason 'case 7'", 0, ""),
        ("hold nothing", 4, "nothing"),
        ("holds paper.txt", 0, f"{pin}  pin"),
        ("holds paper.txt", 0, "legal  -  -  case 7"),
        ("holds nothing", 4, "nothing"),
        (f"release {pin}", 0, ""),
        (f"release {pin}", 4, "nothing is held by"),
        ("release paper.txt", 4, "nothing is held by"),
        (f"audit query --file {other} --action upload", 0, "origin=sent platform=zai"),
        ("audit query --file paper.txt --action upload --limit 1", 0, "upload"),
        ("audit query --file nothing", 4, "nothing"),
        ("audit query --since-days -1", 2, "x>=0"),
        ("audit query --since-days nan", 2, "not possible"),
        ("audit query --limit 0", 2, "x>=1"),
        ("audit tail -n 0", 2, "x>=1"),
        ("audit prove 99", 4, "no record 99"),
        ("audit prove 1180591620717411303424", 2, "0<=x<=9223372036854775807"),
        ("audit verify", 0, "intact: "),
        ("check paper.txt", 0, "healthy  moonshot"),
        ("check paper.txt --platform zai", 4, "not on zai"),
        ("check nothing", 4, "nothing"),
    ]:
        done = run_in_shell(command)
        assert "Traceback" not in done.stderr, done.stderr
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), (command, done.stdout, done.stderr)


def test_a_check_tells_what_is_wrong_from_what_could_not_be_asked(run, sim, paper):
    run("upload", str(paper), "--to", "moonshot", "--to", "zai")
    sim.moonshot.fault({"kind": "status", "status": 500, "body": {}}, operation="get")
    unknown = run("check", "paper.txt", "--timeout", "5", EXAI_FILES_RETRY__MAX_ATTEMPTS="1")
    assert ("unknown" in unknown.stdout, unknown.returncode) == (True, 5)
    sim.zai.vanish(sim.zai.files[0].id)
    lost = run("check", "paper.txt", "--timeout", "5", EXAI_FILES_RETRY__MAX_ATTEMPTS="1")
    assert ("unknown" in lost.stdout, "lost" in lost.stdout, lost.returncode) == (True, True, 10)


def test_a_watcher_names_the_files_that_it_tells_of(environment, run, sim, paper, tmp_path):
    digest = run("upload", str(paper), "--to", "moonshot").stdout.split()[0]
    sim.moonshot.vanish(sim.moonshot.files[0].id)
    command = [sys.executable, "-m", "exai_files", "watch"]
    with (tmp_path / "told").open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.PIPE, env=environment, cwd=tmp_path)
    in_time = deadline()
    while not (line := (tmp_path / "told").read_text()).endswith("\n"):
        assert process.poll() is None
        in_time()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert line.startswith(f"lost  moonshot default  {digest}  paper.txt  ")


# ===== what takes away =====


@pytest.mark.parametrize(
    ("command", "danger"),
    [
        (("rm", "paper.txt"), "rm deletes from platforms"),
        (("lifecycle", "archive", "paper.txt"), "lifecycle archive deletes from platforms"),
        (("lifecycle", "erase", "paper.txt"), "lifecycle erase removes for good"),
        (("lifecycle", "apply"), "lifecycle apply takes files away"),
        (("copies", "gc"), "copies gc deletes copies"),
    ],
    ids=["rm", "archive", "erase", "apply", "gc"],
)
def test_what_takes_away_needs_a_yes(run, run_at_terminal, sim, paper, tmp_path, registry, keeps, command, danger):
    assert run("upload", str(paper), "--to", "moonshot", **keeps).returncode == 0
    databases.query(registry, f"UPDATE file_hashes SET keep_until = {LONG_AGO}")
    (kept,) = (path for path in (tmp_path / "copies").rglob("*") if path.is_file())
    unfinished = kept.with_name(f"{kept.name}#1")
    unfinished.write_text("un")
    os.utime(unfinished, (0, 0))

    def is_as_before():
        return len(sim.moonshot.files) == 1 and kept.exists() and unfinished.exists()

    alone = run(*command, stdin=b"y\n", **keeps)
    assert (alone.returncode, alone.stdout, is_as_before()) == (2, "", True)
    assert f"{danger}: add --yes" in alone.stderr
    assert "Traceback" not in alone.stderr

    planned = run(*command, "--dry-run", **keeps)
    assert (planned.returncode, planned.stderr, is_as_before()) == (0, "", True)
    assert planned.stdout

    refused = run_at_terminal("n\n", *command, **keeps)
    assert (refused.returncode, refused.stdout, is_as_before()) == (130, "", True)
    assert "? [y/N]:" in refused.stderr
    assert any(word in refused.stderr for word in ("would be deleted", "would be removed", "due  expire"))

    agreed = run_at_terminal("y\n", *command, **keeps)
    assert (agreed.returncode, is_as_before()) == (0, False), agreed.stderr
    assert agreed.stdout.strip()


@pytest.mark.parametrize("command", [("lifecycle", "apply"), ("copies", "gc")], ids=["apply", "gc"])
def test_nobody_is_asked_where_nothing_would_go(run_at_terminal, keeps, command):
    done = run_at_terminal("", *command, **keeps)
    assert (done.returncode, done.stderr) == (0, "")


def test_archiving_says_what_it_did(run, sim, paper, keeps):
    run("upload", str(paper), "--to", "moonshot", "--to", "zai", **keeps)
    archived = run("lifecycle", "archive", "paper.txt", "--platform", "zai", "--yes", **keeps)
    assert (archived.returncode, archived.stdout) == (0, "paper.txt: archived; still on moonshot\n")
    assert run("lifecycle", "archive", "paper.txt", "--platform", "zai", "--yes", **keeps).returncode == 4
    archived = run("lifecycle", "archive", "paper.txt", "--yes", **keeps)
    assert (archived.stdout, sim.moonshot.files) == ("paper.txt: archived\n", [])


def test_a_dry_run_of_a_move_moves_nothing(run, sim, paper):
    run("upload", str(paper), "--to", "moonshot")
    move = ("mv", "paper.txt", "--from", "moonshot", "--dry-run")
    planned = run(*move, "--to", "zai")
    remote_id = sim.moonshot.files[0].id
    assert (planned.returncode, planned.stdout) == (0, f"paper.txt: moonshot {remote_id} would be moved to zai\n")
    assert (len(sim.moonshot.files), sim.zai.files) == (1, [])
    for wrong in ("mars", "moonshot"):
        assert run(*move, "--to", wrong).returncode == 2
    assert run("mv", "paper.txt", "--from", "zai", "--to", "moonshot", "--dry-run").returncode == 4


def test_a_files_stat_says_how_long_it_is_wanted_and_what_holds_it(run, paper):
    run("upload", str(paper), "--to", "moonshot", "--for", "7d")
    held = run("hold", "paper.txt", "--legal", "--reason", "case 7").stdout.strip()
    shown = run("stat", "paper.txt").stdout
    assert "wanted until 20" in shown
    assert f"{held}  legal  -  -  case 7\n" in shown
    assert "case 7" not in run("ls").stdout


def test_json_says_what_failed(run, sim, paper):
    sim.zai.fault({"kind": "error", "code": "1113"}, operation="upload")
    done = run("upload", str(paper), "nope.txt", "--to", "moonshot", "--to", "zai", "--json")
    partial, missing = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 3
    assert (partial["error"], partial["record"]["replicas"][0]["platform"]) == ("PartialUploadError", "moonshot")
    assert (missing["error"], missing["file"]) == ("SourceNotFoundError", "nope.txt")
    (doomed,) = map(json.loads, run("rm", "paper.txt", "--dry-run", "--json").stdout.splitlines())
    assert doomed["replicas"][0]["remote_id"] == sim.moonshot.files[0].id


def test_several_files_are_gone_through_to_the_end(run, sim, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    assert run("upload", "a.txt", "b.txt", "--to", "moonshot").returncode == 0
    planned = run("upload", "nope.txt", "a.txt", "--to", "moonshot", "--dry-run")
    assert (planned.returncode, planned.stdout) == (3, "a.txt  5 B  moonshot (file-extract): is there already\n")
    sim.moonshot.fault({"kind": "status", "status": 403, "body": {}}, operation="delete", when={"next": 1})
    removed = run("rm", "a.txt", "b.txt", "--yes")
    assert (removed.returncode, removed.stdout) == (3, "b.txt: deleted\n")
    assert run("rm", "b.txt", "nope", "--yes").returncode == 4


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("ls --platform nosuch", 2, "there is no platform"),
        ("rm x --platform nosuch --dry-run", 2, "there is no platform"),
        ("ls --newer-than nan", 2, "not possible"),
        ("sim serve --seed -1", 2, "seed"),
        ("download x - --json", 2, "--json goes with a file"),
        ("upload - --name x.txt --to moonshot <&-", 2, "standard input is closed"),
        ("ls >/dev/full", 1, "No space left"),
        ("ls >&-", 0, ""),
        ("platforms info moonshot | head -1", 0, ""),
    ],
)
def test_odd_uses_have_a_sentence_and_a_code(run_in_shell, run, paper, command, code, said):
    run("upload", str(paper), "--to", "moonshot")
    done = run_in_shell(command)
    assert "Traceback" not in done.stderr
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_names_of_other_people_do_not_reach_the_terminal_raw(run, sim):
    sim.moonshot.seed_file(filename="evil\x1b[31m\nline.txt")
    listed = run("ls", "--remote", "--platform", "moonshot").stdout
    assert "evil\\x1b[31m\\nline.txt" in listed
    assert listed.count("\n") == 1


def test_a_terminal_without_the_characters_gets_them_spelt_out(run, tmp_path):
    (tmp_path / "会议.txt").write_text("x")
    assert run("upload", "会议.txt", "--to", "moonshot", PYTHONIOENCODING="latin-1").returncode == 0
    row = run("ls", "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(row.stdout)["name"] == "会议.txt"


def test_ctrl_c_while_standard_input_is_waited_for(environment, tmp_path):
    command = [sys.executable, "-m", "exai_files", "upload", "-", "--name", "x.txt", "--to", "moonshot"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path)
    in_time = deadline()
    while not (tmp_path / "home" / ".local" / "share" / "exai-files" / "registry.db-wal").exists():
        assert process.poll() is None
        in_time()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    process.communicate()


def test_breakers_are_shown_set_and_reset(run, sim, paper):
    assert run("breaker", "set", "kimi", "forced-open", "--operation", "upload").returncode == 0
    refused = run("upload", str(paper), "--to", "moonshot")
    assert (refused.returncode, "an operator has opened" in refused.stderr) == (5, True)
    assert not sim.moonshot.files
    states = [json.loads(line) for line in run("breaker", "ls", "--json").stdout.splitlines()]
    moonshot = next(each for each in states if each["platform"] == "moonshot")
    assert {row["operation"] for row in moonshot["breakers"] if row["state"] == "forced-open"} == {"upload"}
    assert "forced-open" in run("breaker", "ls").stdout
    assert run("breaker", "reset", "kimi").returncode == 0
    assert run("upload", str(paper), "--to", "moonshot").returncode == 0


def test_standard_input_and_output(run):
    assert run("upload", "-", "--name", "b.jsonl", "--to", "moonshot", stdin=b'{"n": 1}\n').returncode == 0
    assert run("download", "b.jsonl", "-").stdout == '{"n": 1}\n'
    nameless = run("upload", "-", "--to", "moonshot", stdin=b"x")
    assert nameless.returncode == 2
    assert "name" in nameless.stderr


def test_text_that_was_extracted_is_marked(run, paper, tmp_path):
    run("upload", str(paper), "--to", "moonshot")
    done = run("download", "paper.txt", str(tmp_path / "out.json"))
    assert done.returncode == 0
    assert "text that moonshot extracted, not the file" in done.stderr


def test_a_dry_run_changes_nothing(run, sim, paper):
    done = run("upload", str(paper), "--to", "moonshot", "--dry-run")
    assert "would be sent as 'paper~" in done.stdout
    assert not sim.truth(operation="upload")


def test_platform_facts_are_dated_and_need_no_key(run):
    done = run("platforms", "info", "zhipu")
    assert done.returncode == 0
    assert "file-extract" in done.stdout
    assert "retention_days: 180  [docs.z.ai" in run("platforms", "info", "glm").stdout


def test_the_configuration_is_shown_with_its_origin_and_checked(run, tmp_path):
    settings = tmp_path / "mine.toml"
    settings.write_text("deadline = 30\n")
    shown = run("--config", str(settings), "config", "show", "--origin").stdout
    assert f"{settings}:1" in shown
    assert "environment variable EXAI_FILES_RETRY__BASE" in shown
    assert run("config", "check").stdout == "the configuration is right\n"
    settings.write_text("dedline = 30\nretry.cap = 'x'\n")
    wrong = run("--config", str(settings), "config", "check")
    assert wrong.returncode == 2
    assert "did you mean deadline?" in wrong.stderr
    assert f"{settings}:2: retry.cap" in wrong.stderr
    settings.write_text(run("config", "example").stdout)
    assert run("--config", str(settings), "config", "check").returncode == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param({"kind": "error", "type": "incorrect_api_key_error"}, 6, id="authentication"),
        pytest.param({"kind": "error", "type": "permission_denied_error"}, 6, id="permission"),
        pytest.param({"kind": "error", "type": "exceeded_current_quota_error"}, 7, id="billing"),
        pytest.param({"kind": "error", "type": "content_filter"}, 7, id="filtered"),
        pytest.param({"kind": "status", "status": 503, "body": {}}, 5, id="down"),
        pytest.param({"kind": "html", "status": 504}, 5, id="gateway"),
    ],
)
def test_exit_codes_follow_the_remedy(run, sim, paper, fault, code):
    sim.moonshot.fault(fault, operation="upload")
    done = run("upload", str(paper), "--to", "moonshot", EXAI_FILES_RETRY__MAX_ATTEMPTS="2")
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("exai-files: ")
    assert "Traceback" not in done.stderr


def test_some_failed_is_its_own_exit_code(run, sim, paper, tmp_path):
    done = run("upload", str(paper), str(tmp_path / "missing.txt"), "--to", "moonshot")
    assert done.returncode == 3
    assert "paper.txt" in done.stdout
    assert "missing.txt" in done.stderr
    sim.zai.fault({"kind": "error", "code": "1113"}, operation="upload")
    partial = run("upload", str(paper), "--to", "moonshot", "--to", "zai")
    assert partial.returncode == 3
    assert "  zai: " in partial.stderr


def test_misuse_is_met_with_a_suggestion(run):
    done = run("uplaod")
    assert done.returncode == 2
    assert "Did you mean upload?" in done.stderr


def test_interruption_ends_with_130_and_can_be_repeated(run, sim, paper, tmp_path):
    import signal

    sim.moonshot.fault("stall", when={"next": 1}, operation="upload")
    process = subprocess.Popen(
        [sys.executable, "-m", "exai_files", "upload", str(paper), "--to", "moonshot"],
        env={
            **os.environ,
            "HOME": str(tmp_path / "home"),
            "MOONSHOT_BASE_URL": sim.moonshot.base_url,
            "MOONSHOT_API_KEY": sim.moonshot.api_key,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    in_time = deadline()
    while not sim.truth(operation="upload"):
        assert process.poll() is None
        in_time()
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, time.monotonic() - begun < 5) == (130, True)
    assert "interrupted" in said
    assert run("upload", str(paper), "--to", "moonshot").returncode == 0
    assert len(sim.moonshot.files) == 1


def test_the_simulator_is_served_to_other_processes(tmp_path):
    as_background_job = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    serve = ["-m", "exai_files", "sim", "serve", "--seed", "3", "--now", "2026-11-23T10:00:00Z"]
    process = subprocess.Popen(
        [*as_background_job, sys.executable, *serve],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        urls = json.loads(process.stdout.readline())
        assert set(urls) == {"moonshot", "zai", "kimi_code", "kimi_code_oauth", "zhipu_cn", "admin"}
        import urllib.request

        with urllib.request.urlopen(urls["admin"] + "/clock") as answer:
            assert json.load(answer)["now"].startswith("2026-11-23T10:00")
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_help_is_what_the_documentation_says(run):
    expected = (ROOT / "tests_py" / "help.txt").read_text()
    assert run("--help", COLUMNS="100").stdout == expected


def test_help_loads_only_what_it_needs():
    """asyncio and the records are most of the command's start-up; what is left is measured in `benches/`."""
    code = """
import sys
from exai_files.cli import main
try:
    main(["--help"])
finally:
    print({"asyncio", "dataclasses", "exai_files.records"} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_files_are_labelled_found_trashed_and_restored(run, paper):
    labels = ("--tag", "paper", "--set", "n=1", "--set", "who=me", "--owner", "eve")
    assert run("upload", str(paper), "--to", "moonshot", *labels).returncode == 0
    assert "#paper" in run("ls", "--tag", "paper", "--owner", "eve", "--larger-than", "4").stdout
    assert run("ls", "--smaller-than", "5").stdout == ""
    row = json.loads(run("ls", "--json").stdout)
    assert (row["metadata"], row["tags"], row["owner"]) == ({"n": 1, "who": "me"}, ["paper"], "eve")
    assert "#new" in run("update", "paper.txt", "--tag", "new", "--untag", "paper", "--set", "n=null").stdout
    assert 'owner eve  #new  who="me"' in run("stat", "paper.txt").stdout
    assert run("update", "paper.txt", "--set", "nonsense").returncode == 2
    assert "to the trash" in run("trash", "--dry-run", "paper.txt").stdout
    assert run("ls").stdout != ""
    assert run("trash", "paper.txt").returncode == 0
    assert run("ls").stdout == ""
    assert "paper.txt" in run("ls", "--status", "trashed").stdout
    assert run("text", "paper.txt").returncode == 4
    assert run("restore", "paper.txt").returncode == 0
    assert run("text", "paper.txt").stdout == "on paper\n"
    assert run("trash", "nothing").returncode == 4


def test_reconcile_changes_nothing_unless_told_to(run, sim, paper):
    run("upload", str(paper), "--to", "moonshot")
    orphan = sim.moonshot.seed_file(filename="orphan.txt", purpose="file-extract", created_at="2020-01-01T00:00:00Z")
    asked = ("reconcile", "--platform", "moonshot")
    looked = run(*asked, "--only-remote", "delete")
    assert looked.returncode == 10
    assert f"+  moonshot  default  {orphan.id}  orphan.txt" in looked.stdout
    assert "would: delete" in looked.stdout
    assert "1 equal, 1 not; 1 remote files (6 B) that no row explains" in looked.stderr
    assert run(*asked, "--only-remote", "delete", "--max-delete", "0", "--apply").returncode == 8
    assert len(sim.moonshot.files) == 2
    row = json.loads(run(*asked, "--json").stdout)
    assert (row["sign"], row["remote"]["name"], row["action"]) == ("+", "orphan.txt", "none")
    assert run(*asked, "--only-remote", "delete", "--max-delete", "50%", "--apply").returncode == 0
    assert len(sim.moonshot.files) == 1
    assert "=" in run(*asked, "--all").stdout
    sim.moonshot.fault({"kind": "status", "status": 401}, operation="list")
    assert run(*asked).returncode == 3


def test_a_files_life_in_the_shell(run, sim, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert run("upload", "a.txt", "--to", "moonshot", "--for", "7d").returncode == 0
    assert "it is wanted until" in run("lifecycle", "explain", "a.txt").stdout
    assert run("lifecycle", "keep", "a.txt").returncode == 0
    assert "no rule names it" in run("lifecycle", "explain", "a.txt").stdout
    assert "no time span" in run("lifecycle", "keep", "a.txt", "--for", "soon").stderr
    assert "healthy" in run("check", "a.txt").stdout
    assert json.loads(run("check", "a.txt", "--json").stdout)["verdict"] == "healthy"
    assert run("lifecycle", "apply", "--dry-run").stdout == ""
    bare = run("lifecycle", "archive", "a.txt", "--yes")
    assert (bare.returncode, 'no copy of "a.txt" is kept' in bare.stderr) == (2, True)
    sim.moonshot.vanish(sim.moonshot.files[0].id)
    lost = run("check", "a.txt")
    assert (lost.returncode, "lost" in lost.stdout) == (10, True)
    unasked = run("lifecycle", "erase", "a.txt", stdin=b"y\n")
    assert (unasked.returncode, "add --yes" in unasked.stderr, unasked.stdout) == (2, True, "")
    assert "nothing is left" in run("lifecycle", "erase", "a.txt", "--yes").stdout
    assert run("stat", "a.txt").returncode == 4
