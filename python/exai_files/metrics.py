"""What this process did, counted, for Prometheus: no second port, and no second registry.

    from prometheus_client import REGISTRY
    REGISTRY.register(exai_files.metrics.collector())

The names are listed in the Rust core (`src/metrics.rs`); labels are platforms, accounts by their configured names,
operations and words, never files or users. `dashboard()` is a dashboard for Grafana that shows them, `alerts()` are rules for
Prometheus. What a watcher finds is in the metrics of the process that runs `client.watch()`; the command serves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from exai_files import _core

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

__all__ = ["alerts", "collector", "dashboard", "text"]


def text() -> str:
    """Every metric of this process, in the OpenMetrics text format."""
    return _core.metrics_text()


def collector() -> Collector:
    """What `prometheus_client` registries take: the metrics of this process, read when they are scraped.

    Raises:
        ImportError: `prometheus_client` is not installed.
    """
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
    from prometheus_client.registry import Collector

    class FilesCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from text_string_to_metric_families(text())  # type: ignore[no-untyped-call]

    return FilesCollector()


def dashboard() -> str:
    """A Grafana dashboard as JSON, to be imported or provisioned; it asks for its Prometheus data source."""
    return files("exai_files").joinpath("grafana.json").read_text(encoding="utf-8")


def alerts() -> str:
    """Alert rules for Prometheus as YAML: lost files, full accounts, what expires, what was given up, an unsigned log."""
    return files("exai_files").joinpath("alerts.yaml").read_text(encoding="utf-8")
