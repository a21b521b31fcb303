"""The metrics of a server, in the format of Prometheus.

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
    RequestTimeout,
    TargetTooLong,
    TooLarge,
    UnsupportedMediaType,
    WrongHost,
)
from labelwise.server.observe.record import NO_ROUTE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from labelwise.models.model import Model
    from labelwise.server.endpoint import Route
    from labelwise.server.observe.record import RequestRecord
    from labelwise.serving.batcher import Batcher
    from labelwise.serving.cache import Cache
    from labelwise.serving.catalogue import Entry
    from labelwise.serving.classification import ClassifyResult
    from labelwise.serving.queue import Batch

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 15, 60)
_TOKENS = tuple(2**power for power in range(3, 15))
_JOBS = tuple(2**power for power in range(9))
# Observations that wait to be counted. Together they take a fraction of what they take one by one,
# on caches that the engine has just filled with weights.
_MAX_SEEN = 64
_KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


@dataclass(frozen=True, slots=True)
class Family:
    """Series of one name; *labels* tell them apart."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()

    def make(self, registry: CollectorRegistry) -> Any:
        """The client's own object for it."""
        more: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        kind = _KINDS[self.kind]
        return kind(f"labelwise_{self.name}", self.help, self.labels, registry=registry, **more)


FAMILIES = (
    Family(
        "requests_total",
        "counter",
        ("model", "route", "outcome"),
        "Requests. The outcome is the status of the answer, or left if the caller left before it.",
    ),
    Family(
        "request_seconds",
        "histogram",
        ("route",),
        "Seconds from the head of a request to the head of an answer with scores.",
        _SECONDS,
    ),
    Family(
        "tokenization_seconds",
        "histogram",
        ("model",),
        "Seconds until the texts of a request are tokens, with the wait for a thread.",
        _SECONDS,
    ),
    Family(
        "queue_seconds",
        "histogram",
        ("model",),
        "Seconds that a job (the tokens of a request) waits until its first batch starts.",
        _SECONDS,
    ),
    Family("engine_seconds", "histogram", ("model",), "Seconds that a batch runs.", _SECONDS),
    Family("batch_tokens", "histogram", ("model",), "Tokens in a batch.", _TOKENS),
    Family("batch_jobs", "histogram", ("model",), "Jobs that have texts in a batch.", _JOBS),
    Family("waiting_jobs", "gauge", (), "Jobs that still have texts in no batch."),
    Family("waiting_texts", "gauge", (), "Texts in no batch, also those that are not tokens yet."),
    Family("waiting_tokens", "gauge", (), "Tokens in no batch."),
    Family("running_batches", "gauge", (), "Batches that run now."),
    Family("refusals_total", "counter", ("reason",), "Requests refused, by the reason."),
    Family("texts_total", "counter", ("model",), "Texts answered."),
    Family(
        "cache_hits_total",
        "counter",
        ("model",),
        "Texts answered from the cache, or from a computation for another request.",
    ),
    Family(
        "truncated_texts_total",
        "counter",
        ("model",),
        "Texts answered that were longer than the model reads, and were cut.",
    ),
    Family("labels_total", "counter", ("model", "label"), "Texts answered, by their best label."),
    Family("cache_bytes", "gauge", (), "Bytes that the cache uses at most."),
    Family("cache_texts", "gauge", (), "Texts in the cache."),
    Family("build_info", "gauge", ("version",), "1, for the version that runs."),
)

_WITHOUT_ROUTE = "204 400 403 404 405 408 414 429 431 500"  # by the middleware and the connection
REFUSALS = (
    *get_args(Busy),
    *(
        kind.reason
        for kind in (
            TooLarge,
            RequestTimeout,
            TargetTooLong,
            HeadTooLarge,
            AccessDenied,
            UnsupportedMediaType,
            WrongHost,
        )
    ),
)


def table() -> str:
    """All families as a Markdown table."""
    rows = [("name", "type", "labels", "what it is"), ("---",) * 4]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append((f"`labelwise_{family.name}`", family.kind, labels, family.help))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True, slots=True)
class _Series:
    """The series of one model, by the names of their families."""

    tokenization_seconds: Histogram
    queue_seconds: Histogram
    engine_seconds: Histogram
    batch_tokens: Histogram
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

    def __init__(self, routes: Sequence[Route]) -> None:
        self._registry = CollectorRegistry()
        self._families = {family.name: family.make(self._registry) for family in FAMILIES}
        ProcessCollector(registry=self._registry)
        self._families["build_info"].labels(__version__).set(1)
        self._requests = _Requests(self._families["requests_total"])
        self._seconds = {
            name: self._families["request_seconds"].labels(name)
            for name in dict.fromkeys(route.name for route in routes if route.classifies)
        }
        self._refusals = {why: self._families["refusals_total"].labels(why) for why in REFUSALS}
        self._seen: deque[tuple[Histogram, float]] = deque()
        self._counting = Lock()  # a scrape waits for what another thread has begun to count
        self._series: WeakKeyDictionary[Model, _Series] = WeakKeyDictionary()
        self._of_models = {route.name: route.outcomes for route in routes if route.asks_model}
        self._expect(NO_ROUTE, "", _WITHOUT_ROUTE)
        for route in routes:
            if not route.asks_model:
                self._expect(route.name, "", route.outcomes)
            if route.names_model:
                self._expect(route.name, UNKNOWN, "404")
            if route.scope != "public":
                self._expect(route.name, "", "401")

    def add(self, entry: Entry) -> None:
        """Make the series of *entry*."""
        for route, outcomes in self._of_models.items():
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
            "waiting_tokens": lambda: batcher.load().tokens,
            "running_batches": lambda: batcher.load().batches,
            "cache_bytes": lambda: 0 if cache is None else cache.used_bytes,
            "cache_texts": lambda: 0 if cache is None else len(cache),
        }
        for name, read in gauges.items():
            self._families[name].set_function(read)

    def count(self, record: RequestRecord) -> None:
        """Count a request, at the moment when it has its outcome."""
        self._requests[record.route, record.model, str(record.status or "left")].inc()
        if record.refusal:
            self._refusals[record.refusal].inc()
        if record.entry and record.result and record.status == HTTPStatus.OK:
            self._seconds[record.route].observe(record.seconds)
            self._count_texts(self._series[record.entry.model], record.result)

    def encoded(self, model: Model, seconds: float) -> None:
        """The texts of a request became tokens of *model* within *seconds*."""
        self._see((self._series[model].tokenization_seconds, seconds))

    def ran(self, batch: Batch, seconds: float) -> None:
        """*batch* has run, for *seconds*."""
        series = self._series[batch.model]
        first = [job for job, number in batch.places if number == 0]
        self._see(
            (series.engine_seconds, seconds),
            (series.batch_tokens, batch.tokens),
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
        if len(self._seen) >= _MAX_SEEN:
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
    def _count_texts(series: _Series, result: ClassifyResult) -> None:
        series.texts_total.inc(len(result.scores))
        if result.hits:
            series.cache_hits_total.inc(result.hits)
        if result.truncated:
            series.truncated_texts_total.inc(result.truncated)
        for label, texts in Counts(scores[0].label for scores in result.scores if scores).items():
            series.labels[label].inc(texts)
