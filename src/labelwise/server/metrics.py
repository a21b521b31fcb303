"""What ``/metrics`` says, in the format of Prometheus.

A series is there, at 0, before anything happens that it counts. No caller can make a new one: the
values of labels are ids of the catalogue, names of handlers, statuses and words written here.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args
from weakref import WeakKeyDictionary

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from labelwise import __version__
from labelwise.errors import (
    AccessDenied,
    Busy,
    HeadTooLarge,
    TargetTooLong,
    TooLarge,
    TooSlow,
)
from labelwise.server.visit import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from labelwise.core.batcher import Batcher
    from labelwise.core.cache import Cache
    from labelwise.core.catalogue import Entry
    from labelwise.core.inference import Found
    from labelwise.core.model import Model
    from labelwise.core.queue import Batch
    from labelwise.server.visit import Visit

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 15, 60)
_IDS = tuple(2**power for power in range(3, 15))
_JOBS = tuple(2**power for power in range(9))
# Observations that wait to be counted. Together they take a fraction of what they take one by one,
# on caches that the engine has just filled with weights.
_MOST_SEEN = 64
_KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


@dataclass(frozen=True, slots=True)
class Family:
    """Series of one name; *labels* tell them apart."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str
    buckets: tuple[float, ...] = ()

    def make(self, registry: CollectorRegistry) -> Any:
        """The client's own object for it."""
        more: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        kind = _KINDS[self.kind]
        return kind(f"labelwise_{self.name}", self.says, self.labels, registry=registry, **more)


FAMILIES = (
    Family(
        "requests_total",
        "counter",
        ("model", "route", "outcome"),
        "Requests. The outcome is the status of the answer, or left where the caller left before.",
    ),
    Family(
        "request_seconds",
        "histogram",
        ("route",),
        "From the head of a request to that of its answer, where that has scores.",
        _SECONDS,
    ),
    Family(
        "tokenization_seconds",
        "histogram",
        ("model",),
        "For the texts of a request to become ids, the wait for a thread included.",
        _SECONDS,
    ),
    Family(
        "queue_seconds",
        "histogram",
        ("model",),
        "From when a job, the texts of a request, has its ids until the first are in a batch.",
        _SECONDS,
    ),
    Family("engine_seconds", "histogram", ("model",), "For a batch to run.", _SECONDS),
    Family("batch_ids", "histogram", ("model",), "Ids in a batch.", _IDS),
    Family("batch_jobs", "histogram", ("model",), "Jobs with texts in a batch.", _JOBS),
    Family("waiting_jobs", "gauge", (), "Jobs with texts that are in no batch yet."),
    Family("waiting_texts", "gauge", (), "Texts in no batch yet, also those becoming ids."),
    Family("waiting_ids", "gauge", (), "Ids in no batch yet."),
    Family("running_batches", "gauge", (), "Batches that run."),
    Family("refusals_total", "counter", ("reason",), "Requests refused, by what was too much."),
    Family("texts_total", "counter", ("model",), "Texts answered."),
    Family(
        "cache_hits_total",
        "counter",
        ("model",),
        "Texts answered from the cache, or from a computation that was under way.",
    ),
    Family("truncated_texts_total", "counter", ("model",), "Texts answered that had been cut."),
    Family("labels_total", "counter", ("model", "label"), "Texts answered, by their best label."),
    Family("cache_bytes", "gauge", (), "Memory of the cache, an upper bound."),
    Family("cache_texts", "gauge", (), "Texts in the cache."),
    Family("build_info", "gauge", ("version",), "1, for the version that runs."),
)

_SCORES = "200 400 408 413 429 431 500 504 left"
# By route what can come of a request for a model, for one that is not served, and for none.
OUTCOMES = {
    "classify": (_SCORES, "404", "401"),
    "predict": (_SCORES, "", "401"),
    "show_model": ("200 307 404 500", "404", ""),
    "list_models": ("", "", "200 400 500"),
    "list_tasks": ("", "", "200 500"),
    "who_am_i": ("", "", "200 401 500"),
    "health": ("", "", "200 500 503"),
    "ready": ("", "", "200 500 503"),
    "info": ("", "", "200 401 500"),
    "metrics": ("", "", "200 401 500"),
    "openapi": ("", "", "200 401 500"),
    "none": ("", "", "204 400 403 404 405 408 414 429 431 500"),
}
_TIMED = ("classify", "predict")
REFUSALS = (
    *get_args(Busy),
    *(kind.reason for kind in (TooLarge, TooSlow, TargetTooLong, HeadTooLarge, AccessDenied)),
    "host",
)


def table() -> str:
    """All families as a Markdown table."""
    rows = [("name", "type", "labels", "what it is"), ("---",) * 4]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append((f"`labelwise_{family.name}`", family.kind, labels, family.says))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True, slots=True)
class _Series:
    """The series of one model, by the names of their families."""

    tokenization_seconds: Histogram
    queue_seconds: Histogram
    engine_seconds: Histogram
    batch_ids: Histogram
    batch_jobs: Histogram
    texts_total: Counter
    cache_hits_total: Counter
    truncated_texts_total: Counter
    labels: dict[str, Counter]


class _Requests(dict[tuple[str, str, str], Counter]):
    """Counters of requests by route, model and outcome. One that nobody expected is made."""

    def __init__(self, family: Counter) -> None:
        self._family = family

    def __missing__(self, key: tuple[str, str, str]) -> Counter:
        route, model, outcome = key
        self[key] = self._family.labels(model=model, route=route, outcome=outcome)
        return self[key]


class Metrics:
    """The series of one server. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = {family.name: family.make(self._registry) for family in FAMILIES}
        ProcessCollector(registry=self._registry)
        self._families["build_info"].labels(__version__).set(1)
        self._requests = _Requests(self._families["requests_total"])
        self._seconds = {route: self._families["request_seconds"].labels(route) for route in _TIMED}
        self._refusals = {why: self._families["refusals_total"].labels(why) for why in REFUSALS}
        self._seen: deque[tuple[Histogram, float]] = deque()
        self._counting = Lock()  # a scrape waits for what another thread has begun to count
        self._series: WeakKeyDictionary[Model, _Series] = WeakKeyDictionary()
        for route, (_, unknown, without) in OUTCOMES.items():
            self._expect(route, UNKNOWN, unknown)
            self._expect(route, "", without)

    def add(self, entry: Entry) -> None:
        """Make the series of *entry*."""
        for route, (outcomes, _, _) in OUTCOMES.items():
            self._expect(route, entry.id, outcomes)
        mine = {family.name for family in FAMILIES if family.labels == ("model",)}
        made = {name: self._families[name].labels(entry.id) for name in mine}
        family = self._families["labels_total"]
        labels = {label: family.labels(entry.id, label) for label in entry.model.labels}
        self._series[entry.model] = _Series(**made, labels=labels)

    def watch(self, batcher: Batcher, cache: Cache | None) -> None:
        """Say at each scrape what *batcher* and *cache* hold."""
        gauges = {
            "waiting_jobs": lambda: batcher.load().jobs,
            "waiting_texts": lambda: batcher.load().texts,
            "waiting_ids": lambda: batcher.load().ids,
            "running_batches": lambda: batcher.load().batches,
            "cache_bytes": lambda: 0 if cache is None else cache.used_bytes,
            "cache_texts": lambda: 0 if cache is None else len(cache),
        }
        for name, read in gauges.items():
            self._families[name].set_function(read)

    def count(self, visit: Visit) -> None:
        """Count a request, at the moment when it has its outcome."""
        self._requests[visit.route, visit.model, str(visit.status or "left")].inc()
        if visit.refusal:
            self._refusals[visit.refusal].inc()
        if visit.entry and visit.found and visit.status == HTTPStatus.OK:
            self._seconds[visit.route].observe(visit.seconds)
            self._count_texts(self._series[visit.entry.model], visit, visit.found)

    def encoded(self, model: Model, seconds: float) -> None:
        """The texts of a request became ids of *model* in so many *seconds*."""
        self._see((self._series[model].tokenization_seconds, seconds))

    def ran(self, batch: Batch, seconds: float) -> None:
        """*batch* has run, for so many *seconds*."""
        series = self._series[batch.model]
        first = [job for job, number in batch.places if number == 0]
        self._see(
            (series.engine_seconds, seconds),
            (series.batch_ids, batch.ids),
            (series.batch_jobs, len({id(job) for job, _ in batch.places})),
            *((series.queue_seconds, batch.started - job.arrived) for job in first),
        )

    def written(self, accept: str) -> tuple[bytes, str]:
        """All series, and their media type: OpenMetrics where *accept*, the header, names it."""
        openmetrics = "application/openmetrics-text"
        # Not the header itself: the client fails on versions that are no numbers.
        encode, kind = choose_encoder(openmetrics if openmetrics in accept else "")
        return encode(self), kind

    def collect(self) -> Iterator[Metric]:
        """All families, without the times of their making: those would double the series."""
        self._count_seen()
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric

    def _see(self, *seen: tuple[Histogram, float]) -> None:
        self._seen.extend(seen)
        if len(self._seen) >= _MOST_SEEN:
            self._count_seen()

    def _count_seen(self) -> None:
        with self._counting:
            while self._seen:
                histogram, value = self._seen.popleft()
                histogram.observe(value)

    def _expect(self, route: str, model: str, outcomes: str) -> None:
        for outcome in outcomes.split():
            _ = self._requests[route, model, outcome]

    @staticmethod
    def _count_texts(series: _Series, visit: Visit, found: Found) -> None:
        series.texts_total.inc(len(found.rows))
        if found.hits:
            series.cache_hits_total.inc(found.hits)
        cut = sum(row.truncated for row in found.rows)
        if cut:
            series.truncated_texts_total.inc(cut)
        for label, texts in Counts(scores[0].label for scores in visit.scores).items():
            series.labels[label].inc(texts)
