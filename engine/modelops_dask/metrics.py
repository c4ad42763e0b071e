"""Metrics of a worker process, served to Prometheus by Dask's own /metrics.

executors, caches, batches -> count(), observe() -> totals of this process -> Collector -> GET /metrics

Counting needs no package and takes well under a microsecond; serve() has no effect if prometheus_client is
missing. This module does not open a port: Dask does. docs/metrics.md lists the names.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from modelops_dask.shape import MIB

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family


@dataclass(frozen=True)
class Metric:
    """A counter, or a histogram if `buckets` (their upper bounds) is set. `labels` are names."""

    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    "tasks": Metric("Attempts at tasks by outcome: ok, failed, died.", ("executor", "outcome")),
    "task_seconds": Metric(
        "Seconds that the model ran for a task.",
        ("executor",),
        (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
    ),
    "task_peak_bytes": Metric(
        "Peak memory of a task's process.", ("executor",), tuple(MIB << n for n in range(4, 16))
    ),
    "runner_starts": Metric("Runner processes started: zygotes with isolated_fork."),
    "runner_reuses": Metric("Tasks that found a runner waiting for them."),
    "runner_retirements": Metric(
        "Runners ended, by reason: reuse, age, room (for another), lost (with its task), unfit (idle), "
        "memory, closed.",
        ("reason",),
    ),
    "cache_lookups": Metric("Cache lookups of bundles and environments.", ("cache", "result")),
    "environment_build_seconds": Metric(
        "Seconds that uv needed to build an environment.", (), (1, 3, 10, 30, 100, 300, 1000)
    ),
}

Key = tuple[str, tuple[str, ...]]  # the name of a metric and the values of its labels

_lock = threading.Lock()
_totals: Counter[Key] = Counter()  # sums of histograms
_buckets: dict[Key, Counter[int]] = {}  # observations of histograms, by number of bucket


def count(name: str, *labels: str, by: int = 1) -> None:
    """Add to a counter; labels are values, in the order of the metric's labels."""
    with _lock:
        _totals[name, labels] += by


def observe(name: str, values: Sequence[float], *labels: str) -> None:
    """Add observations to a histogram."""
    import numpy as np  # imported here, because commands without metrics also import this module

    observed, bounds = np.asarray(values), METRICS[name].buckets
    numbers, counts = np.unique(np.searchsorted(bounds, observed), return_counts=True)
    with _lock:
        _totals[name, labels] += observed.sum().item()
        _buckets.setdefault((name, labels), Counter()).update(
            dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        )


def serve(facts: dict[str, object], pool: Callable[[], dict[str, int]]) -> bool:
    """Add the totals of this process to its /metrics.

    Args:
        facts: Labels of the metric "modelops_runtime_info".
        pool: Returns the number of runners by state; called for each request.

    Returns:
        False if prometheus_client is not installed.
    """
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return False
    global _collector
    if _collector is not None:  # there is a second worker in the process, as in tests
        REGISTRY.unregister(_collector)
    _collector = Collector({name: str(value) for name, value in facts.items()}, pool)
    REGISTRY.register(_collector)
    return True


class Collector:
    """prometheus_client's view of the totals."""

    def __init__(self, facts: dict[str, str], pool: Callable[[], dict[str, int]]) -> None:
        self._facts, self._pool = facts, pool

    def collect(self) -> Iterator["Family"]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )
        from prometheus_client.utils import floatToGoString

        yield InfoMetricFamily("modelops_runtime", "Settings in effect in this process.", value=self._facts)
        runners = GaugeMetricFamily("modelops_runners", "Runner processes.", labels=["state"])
        for state, number in self._pool().items():
            runners.add_metric([state], number)
        yield runners
        with _lock:
            summed, observed = dict(_totals), {key: Counter(counts) for key, counts in _buckets.items()}
        for name, metric in METRICS.items():
            totals = {labels: total for (metric_name, labels), total in summed.items() if metric_name == name}
            if not metric.buckets:
                counter = CounterMetricFamily(f"modelops_{name}", metric.help, labels=metric.labels)
                for labels, total in totals.items():
                    counter.add_metric(labels, total)
                yield counter
                continue
            histogram = HistogramMetricFamily(f"modelops_{name}", metric.help, labels=metric.labels)
            bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
            for labels, total in totals.items():
                below = accumulate(observed[name, labels][number] for number in range(len(bounds)))
                histogram.add_metric(labels, list(zip(bounds, below, strict=True)), total)
            yield histogram


_collector: Collector | None = None
