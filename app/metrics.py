"""What Prometheus sees of the service (`GET /metrics`)."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.scoreboard import Scoreboard, Worker

FAST_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
"""Seconds."""


class ServiceMetrics:
    """The service's metrics, in a registry of their own; `scraped` is what is shown of them.

    Where several workers answer, each counts in files (prometheus_client's multiprocess mode), and
    the sum is shown.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.registry = self.scraped = CollectorRegistry()
        if worker is not None:
            self.scraped = CollectorRegistry()
            MultiProcessCollector(self.scraped)  # type: ignore[no-untyped-call]
            self.scraped.register(_Workers(worker.scoreboard))
        self.requests = Counter(
            "menny_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "menny_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            ["route"],
            buckets=FAST_BUCKETS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "menny_batch_size",
            "Prompts in a forward pass",
            buckets=(1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256),
            registry=self.registry,
        )
        self.forward_seconds = Histogram(
            "menny_forward_seconds",
            "Time of a batch in the engine: encoding, forward pass, decoding",
            buckets=FAST_BUCKETS,
            registry=self.registry,
        )
        self.answers = Counter(
            "menny_answers",
            "Queries answered, by the answer table or by the model",
            ["source"],
            registry=self.registry,
        )
        self.rejected = Counter(
            "menny_rejected", "Requests turned away", ["reason"], registry=self.registry
        )
        self.queue_depth = Gauge(
            "menny_queue_depth",
            "Prompts that wait for the engine",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._model = Gauge(
            "menny_model_info",
            "1 for the model that answers",
            ["version", "device"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._shown: Gauge | None = None
        self._keeps_labels = worker is not None  # they can't be removed from files

    def show_model(self, version: str, device: str) -> None:
        """Name the model that answers."""
        if self._keeps_labels and self._shown is not None:
            self._shown.set(0)
        elif not self._keeps_labels:
            self._model.clear()
        self._shown = self._model.labels(version, device)
        self._shown.set(1)


class _Workers(Collector):
    """What the scoreboard says."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        live = self._scoreboard.num_live
        yield GaugeMetricFamily("menny_workers", "Processes that answer", value=live)
        restarts = sum(row.restarts for row in self._scoreboard.rows)
        yield CounterMetricFamily(
            "menny_worker_restarts", "Workers that ended and were started again", value=restarts
        )
