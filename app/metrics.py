"""What Prometheus sees of the service (`GET /metrics`)."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
"""Seconds."""


class ServiceMetrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._queue_depth = Gauge(
            "menny_queue_depth", "Prompts that wait for the engine", registry=self.registry
        )
        self._model = Gauge(
            "menny_model_info",
            "1 for the model that answers",
            ["version", "device"],
            registry=self.registry,
        )

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Ask `depth` for the queue's length at each scrape."""
        self._queue_depth.set_function(depth)

    def show_model(self, version: str, device: str) -> None:
        """Name the model that answers."""
        self._model.clear()
        self._model.labels(version, device).set(1)
