"""Counts of what happens, as plain numbers for Prometheus.

Counting costs a dictionary look-up, not a lock: each number has one thread that writes it.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of durations."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Upper bounds of numbers of things taken together."""

MOST_HOSTS = 100
"""Hosts that are counted each for itself."""

Gauge = Callable[[], float]


class Spread:
    """How values spread over buckets: `bounds` are the upper ends, the last bucket has none."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the pairs (upper bound, values up to it) that Prometheus wants."""
        total, pairs = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.buckets, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class Metrics(Collector):
    """All numbers of one process; `gauge` adds one that is asked for at each scrape."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.runs: Counter[tuple[str, str]] = Counter()
        self.node_failures: Counter[tuple[str, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self.timers: Counter[str] = Counter()
        self.effects: Counter[tuple[str, str]] = Counter()
        self._hosts: set[str] = set()
        self.conflicts = 0
        self.durations: dict[str, Spread] = {}
        self.commit_seconds = Spread(SECONDS)
        self.commit_changes = Spread(SIZES)
        self._gauges: dict[str, tuple[str, Gauge]] = {}

    def request(self, door: str, status: int, seconds: float) -> None:
        """Count an answered request of a door and how long it took."""
        self.requests[door, str(status)] += 1
        spread = self.durations.get(door)
        if spread is None:
            spread = self.durations[door] = Spread(SECONDS)
        spread.add(seconds)

    def event(self, outcome: str, n: int = 1) -> None:
        """Count events: `accepted`, `refused`, `duplicate`, `failed` or `not_kept`."""
        self.events[outcome] += n

    def run(self, workflow: str, outcome: str, n: int = 1) -> None:
        """Count runs: `ok`, `error`, or the word that says why a workflow did not run."""
        self.runs[workflow, outcome] += n

    def node_failure(self, workflow: str, node: str) -> None:
        """Count a node that failed."""
        self.node_failures[workflow, node] += 1

    def effect(self, host: str, outcome: str) -> None:
        """Count an attempt to send an effect: `sent`, `retried` or `dead`; beyond many hosts they are `other`."""
        if host not in self._hosts:
            if len(self._hosts) >= MOST_HOSTS:
                host = "other"
            self._hosts.add(host)
        self.effects[host, outcome] += 1

    def reload(self, outcome: str) -> None:
        """Count a change of the workspace: `live` or `refused`."""
        self.reloads[outcome] += 1

    def timer(self, outcome: str) -> None:
        """Count a timer that a worker had in hand: what it is now, `pending` when it comes again."""
        self.timers[outcome] += 1

    def conflict(self) -> None:
        """Count a commit that has to run again."""
        self.conflicts += 1

    def commit(self, changes: int, seconds: float) -> None:
        """Count one durable write of the store and how many changes it took together."""
        self.commit_changes.add(changes)
        self.commit_seconds.add(seconds)

    def gauge(self, name: str, about: str, read: Gauge) -> None:
        """Show a number under `headrace_<name>`, which is asked for at each scrape."""
        self._gauges[f"headrace_{name}"] = (about, read)

    def collect(self) -> Iterable[Metric]:
        """Return everything as Prometheus families."""
        yield _counter("requests", "Requests answered.", ("door", "status"), dict(self.requests))
        yield _counter("events", "Events by what became of them.", ("outcome",), _single(self.events))
        yield _counter("runs", "Runs by workflow and outcome.", ("workflow", "outcome"), dict(self.runs))
        yield _counter("node_failures", "Nodes that failed.", ("workflow", "node"), dict(self.node_failures))
        yield _counter(
            "effect_attempts", "Attempts to send effects.", ("host", "outcome"), dict(self.effects)
        )
        yield _counter("workspace_reloads", "Changes of the workspace.", ("outcome",), _single(self.reloads))
        yield _counter("timers", "Timers by what became of them.", ("outcome",), _single(self.timers))
        yield CounterMetricFamily(
            "headrace_conflicts", "Commits that had to run again.", value=self.conflicts
        )
        durations = HistogramMetricFamily(
            "headrace_request_seconds", "Time to answer a request.", labels=("door",)
        )
        for door, spread in dict(self.durations).items():
            durations.add_metric((door,), spread.cumulative(), spread.sum)
        yield durations
        yield _histogram("commit_seconds", "Time of one durable write.", self.commit_seconds)
        yield _histogram("commit_changes", "Changes in one durable write.", self.commit_changes)
        for name, (about, read) in dict(self._gauges).items():
            yield GaugeMetricFamily(name, about, value=read())


def make_registry(metrics: Metrics) -> CollectorRegistry:
    """Return a registry with these metrics and those of the process (memory, CPU, files)."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _single(counts: Counter[str]) -> dict[tuple[str, ...], int]:
    return {(word,): count for word, count in counts.items()}


def _counter(
    name: str,
    about: str,
    labels: Sequence[str],
    counts: dict[tuple[str, str], int] | dict[tuple[str, ...], int],
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"headrace_{name}", about, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, about: str, spread: Spread) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"headrace_{name}", about, buckets=spread.cumulative(), sum_value=spread.sum)
