"""The metrics as Prometheus and Grafana see them."""

from __future__ import annotations

import json
import re

import prometheus_client
import pytest

import exai_files
import exai_files.metrics


@pytest.fixture
def registry():
    registry = prometheus_client.CollectorRegistry()
    registry.register(exai_files.metrics.collector())
    return registry


def test_what_happened_is_counted(sim, registry):
    labels = {"platform": "moonshot", "account_alias": "default"}
    uploads = {**labels, "operation": "upload"}

    def value(name, **more):
        return registry.get_sample_value(name, {**labels, **more}) or 0.0

    before = [value("exai_files_upload_bytes_total"), value("exai_files_dedupe_hits_total")]
    count = value("exai_files_requests_total", operation="upload", outcome="success")
    with sim.client() as files:
        files.upload(b"hello", name="a.txt", to="moonshot")
        files.upload(b"hello", name="a.txt", to="moonshot")
    after = [value("exai_files_upload_bytes_total"), value("exai_files_dedupe_hits_total")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [5.0, 1.0]
    assert value("exai_files_requests_total", operation="upload", outcome="success") == count + 1
    assert registry.get_sample_value("exai_files_request_duration_seconds_count", uploads) >= 1
    assert value("exai_files_queue_depth") == 0.0
    assert registry.get_sample_value("exai_files_build_info", {"version": exai_files.__version__}) == 1.0


def test_a_breaker_that_opens_is_seen(sim, registry):
    sim.zai.fault({"kind": "status", "status": 503, "body": {}}, operation="list")
    name = {"breaker": "zai default list"}
    opened = registry.get_sample_value("exai_files_breaker_transitions_total", {**name, "to": "open"}) or 0.0
    with sim.client(settings={"breaker": {"minimum_number_of_calls": 4}, "retry": {"base": 0.01}}) as files:
        with pytest.raises(exai_files.CircuitOpenError):
            files.list_remote("zai")
    assert registry.get_sample_value("exai_files_breaker_transitions_total", {**name, "to": "open"}) == opened + 1
    assert registry.get_sample_value("exai_files_breaker_state", name) == 2.0


def test_no_label_takes_unbounded_values(sim):
    with sim.client() as files:
        record = files.upload(b"a secret business", name="personal.txt", to="moonshot")
    text = exai_files.metrics.text()
    for private in ("personal", record.digest, record.digest[7:], record.on("moonshot").remote_id, "simulator"):
        assert private not in text
    known = {"platform", "account_alias", "operation", "outcome", "breaker", "to", "because", "version", "le"} | {
        "event",
        "within",
    }
    assert set(re.findall(r'(\w+)="', text)) <= known


def test_the_default_registry_takes_it_and_exposes_it_at_its_own_port(sim):
    collector = exai_files.metrics.collector()
    prometheus_client.REGISTRY.register(collector)
    try:
        assert b"exai_files_build_info" in prometheus_client.generate_latest()
    finally:
        prometheus_client.REGISTRY.unregister(collector)


def test_the_dashboard_asks_only_for_metrics_that_exist(sim):
    board = json.loads(exai_files.metrics.dashboard())
    assert (board["title"], board["schemaVersion"], len(board["panels"])) == ("exai-files", 39, 12)
    assert len({panel["id"] for panel in board["panels"]}) == 12
    with sim.client() as files:
        files.upload(b"hello", name="a.txt", to="any")
        files.set_breaker("zai", "forced-open", operation="get")
    known = {line.split()[2] for line in exai_files.metrics.text().splitlines() if line.startswith("# TYPE")}
    for panel in board["panels"]:
        for target in panel["targets"]:
            for name in re.findall(r"exai_files_\w+", target["expr"]):
                assert re.sub(r"_(total|bucket|count|sum)$", "", name) in known, name
            assert target["expr"].count("(") == target["expr"].count(")")


def test_alert_rules_name_metrics_that_a_watcher_shows(sim):
    with sim.client() as files:
        files.upload(b"hello", name="a.txt", to="zai")
        sim.moonshot.vanish(files.upload(b"lost", name="b.txt", to="moonshot").on("moonshot").remote_id)
        assert [notice.event for notice in files.watch().look()] == ["lost"]
    shown = set(re.findall(r"^# TYPE (\S+)", exai_files.metrics.text(), re.MULTILINE))
    shown |= {f"{name}_total" for name in shown}
    alerts = exai_files.metrics.alerts()
    named = set(re.findall(r"exai_files_\w+", alerts)) - {"exai_files"}
    assert len(named) >= 8
    assert named <= shown
    from click.testing import CliRunner

    from exai_files.cli.main import cli  # with its commands

    for command in re.findall(r"`exai-files ([^`]+)`", alerts):
        assert CliRunner().invoke(cli, [*command.split(), "--help"]).exit_code == 0, command
    assert 'what_to_do: "`exai-files breaker ls` and' in alerts.partition("ExaiFilesBreakerOpen")[2]
    assert "`exai-files watch` serves no metrics" in alerts.partition("ExaiFilesNobodyWatches\n")[2]
    assert re.search(
        r'exai_files_account_files\{platform="zai",account_alias="default"\} [1-9]', exai_files.metrics.text()
    )
