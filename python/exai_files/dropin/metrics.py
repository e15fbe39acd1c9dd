"""Metrics of the existing tool's names, made once for a whole process, whoever asks first.

The tool's dashboards know these names, and in a process where old and new modules meet one of them may be there already:
then it is the one that is counted on. Where the old one has other labels, ours has `exai_files_` before its name.
They are made when they are first counted: `prometheus_client` takes longer to load than a module of ours. Without it
nothing is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

__all__ = ["Metric", "counter", "gauge", "histogram", "plain"]


class Metric:
    """A metric of `prometheus_client`, as soon as something is asked of it."""

    def __init__(self, kind: str, name: str, documentation: str, labels: Sequence[str], **options: Any) -> None:
        self._asked, self._options = (kind, name, documentation, labels), options

    @cached_property
    def metric(self) -> Any:
        """The metric itself."""
        return _made(*self._asked, **self._options)

    def labels(self, *values: str, **named: str) -> Any:
        """As of `prometheus_client`, with words that can be served."""
        return self.metric.labels(*map(plain, values), **{name: plain(value) for name, value in named.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.metric, name)


def plain(text: str) -> str:
    """Without halves of characters, such as of file names that are no UTF-8: one of them spoils the whole process' page."""
    return str(text).encode("utf-8", "replace").decode()


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Metric:
    """A `prometheus_client.Counter` in the process-wide registry."""
    return Metric("Counter", name, documentation, labels)


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Metric:
    """A `prometheus_client.Gauge` in the process-wide registry."""
    return Metric("Gauge", name, documentation, labels)


def histogram(
    name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] | None = None
) -> Metric:
    """A `prometheus_client.Histogram` in the process-wide registry."""
    return Metric("Histogram", name, documentation, labels, **({} if buckets is None else {"buckets": buckets}))


def _made(kind: str, name: str, documentation: str, labels: Sequence[str], **options: Any) -> Any:
    try:
        import prometheus_client
    except ImportError:
        return _Uncounted()
    make = getattr(prometheus_client, kind)
    for candidate in (name, f"exai_files_{name}"):
        try:
            return make(candidate, documentation, labels, **options)
        except ValueError:
            there = _registered(candidate)
            if type(there) is make and there._labelnames == tuple(labels):
                return there
    return make(name, documentation, labels, registry=None, **options)


def _registered(name: str) -> Any:
    from prometheus_client import REGISTRY

    names = REGISTRY._names_to_collectors
    return names.get(name) or names.get(name.removesuffix("_total"))


class _Uncounted:
    """Takes every call of a metric, and forgets it."""

    def __getattr__(self, _: str) -> Callable[..., _Uncounted]:
        return lambda *_args, **_kwargs: self
