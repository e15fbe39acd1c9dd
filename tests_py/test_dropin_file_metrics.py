"""The drop-in's `file_metrics` (dropin_contract.md §1.9): the names that dashboards know, and what they count."""

from __future__ import annotations

import subprocess
import sys
import threading

import prometheus_client
import pytest

from exai_files.dropin import file_metrics

FAMILIES = {
    "FILE_UPLOAD_ATTEMPTS": ("mcp_file_upload_attempts", "counter", ("provider", "user_id")),
    "FILE_UPLOAD_BYTES": ("mcp_file_upload_bytes", "counter", ("provider", "status")),
    "FILE_UPLOAD_DURATION": ("mcp_file_upload_duration_seconds", "histogram", ("provider",)),
    "ACTIVE_UPLOADS": ("mcp_file_active_uploads", "gauge", ()),
    "DEDUPLICATION_HITS": ("mcp_file_deduplication_hits", "counter", ()),
    "CIRCUIT_BREAKER_TRIPS": ("mcp_file_circuit_breaker_trips", "counter", ("provider",)),
    "FILE_DELETIONS": ("mcp_file_deletions", "counter", ("provider", "reason")),
}


def value(name, **labels):
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


class Change:
    """Of a series, since it was last asked for."""

    def __init__(self, name, **labels):
        self._series = name, labels
        self._before = value(name, **labels)

    def __call__(self):
        return value(self._series[0], **self._series[1]) - self._before


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_the_name_and_labels_that_dashboards_know(name):
    family, kind, labels = FAMILIES[name]
    metric = getattr(file_metrics, name)
    assert (metric._name, metric._type, tuple(metric._labelnames)) == (family, kind, labels)
    assert getattr(file_metrics, name) is metric


def test_durations_fall_into_the_buckets_that_dashboards_know():
    assert tuple(file_metrics.FILE_UPLOAD_DURATION._upper_bounds) == (
        *(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
        float("inf"),
    )


def test_each_record_is_counted_under_its_labels():
    attempts = Change("mcp_file_upload_attempts_total", provider="kimi", user_id="eve")
    sent = Change("mcp_file_upload_bytes_total", provider="kimi", status="success")
    uploads = Change("mcp_file_upload_duration_seconds_count", provider="kimi")
    seconds = Change("mcp_file_upload_duration_seconds_sum", provider="kimi")
    hits = Change("mcp_file_deduplication_hits_total")
    trips = Change("mcp_file_circuit_breaker_trips_total", provider="glm")
    deletions = Change("mcp_file_deletions_total", provider="glm", reason="expired")
    file_metrics.record_upload_attempt("kimi", "eve")
    file_metrics.record_upload_completion("kimi", "success", 10, 2.0)
    file_metrics.record_deduplication_hit()
    file_metrics.record_circuit_breaker_trip("glm")
    file_metrics.record_file_deletion("glm", "expired")
    assert [change() for change in (attempts, sent, uploads, seconds, hits, trips, deletions)] == [1, 10, 1, 2, 1, 1, 1]


def test_the_gauge_never_falls_below_what_is_under_way():
    """Fault 45: a failed upload was completed twice, and the gauge went below zero."""
    active = Change("mcp_file_active_uploads")
    file_metrics.record_upload_completion("kimi", "failed", 0, 0.1)
    assert active() == 0
    file_metrics.record_upload_attempt("unknown", "eve")
    assert active() == 1
    file_metrics.record_upload_completion("kimi", "failed", 10, 0.1)
    file_metrics.record_upload_completion("kimi", "failed", 0, 0.1)
    assert active() == 0


def test_the_gauge_is_right_again_after_many_threads():
    active = Change("mcp_file_active_uploads")

    def upload():
        for _ in range(200):
            with file_metrics.recorded_upload("kimi", "eve", 1):
                pass

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert active() == 0


@pytest.mark.parametrize(
    ("error", "set_to", "status"),
    [
        (None, None, "success"),
        (None, "deduplicated", "deduplicated"),
        (ValueError, None, "failed"),
        (KeyboardInterrupt, "deduplicated", "failed"),
    ],
    ids=["done", "there already", "failed", "cancelled"],
)
def test_an_attempt_has_one_completion_whatever_becomes_of_it(error, set_to, status):
    active, uploads = (
        Change("mcp_file_active_uploads"),
        Change("mcp_file_upload_duration_seconds_count", provider="glm"),
    )
    sent = Change("mcp_file_upload_bytes_total", provider="glm", status=status)

    def upload():
        with file_metrics.recorded_upload("glm", "eve", 7) as outcome:
            assert active() == 1
            outcome.status = set_to or outcome.status
            if error:
                raise error

    if error:
        with pytest.raises(error):
            upload()
    else:
        upload()
    assert (active(), uploads(), sent()) == (0, 1, 7)


@pytest.mark.parametrize("bytes_count", [-1, None, "many"])
def test_what_cannot_be_counted_ends_no_upload(caplog, bytes_count):
    active = Change("mcp_file_active_uploads")
    file_metrics.record_upload_attempt("kimi", "eve")
    file_metrics.record_upload_completion("kimi", "success", bytes_count, 0.1)
    assert active() == 0
    assert "record_upload_completion: nothing was counted" in caplog.text


SHARED = """
import prometheus_client
there = prometheus_client.Counter("mcp_file_deletions_total", "Total file deletions", ["provider", "reason"])
prometheus_client.Gauge("mcp_file_active_uploads", "of another kind", ["host"])
from exai_files.dropin import file_metrics
file_metrics.init_file_metrics()
file_metrics.record_file_deletion("kimi", "manual")
file_metrics.record_upload_attempt("kimi", "eve")
assert file_metrics.FILE_DELETIONS is there
value = prometheus_client.REGISTRY.get_sample_value
assert value("mcp_file_deletions_total", {"provider": "kimi", "reason": "manual"}) == 1
assert value("exai_files_mcp_file_active_uploads") == 1
assert value("mcp_file_deduplication_hits_total") == 0
"""

WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from exai_files.dropin import file_metrics
file_metrics.init_file_metrics()
with file_metrics.recorded_upload("kimi", "eve", 1):
    file_metrics.record_deduplication_hit()
"""


@pytest.mark.parametrize("code", [SHARED, WITHOUT], ids=["registered already", "no prometheus_client"])
def test_another_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
