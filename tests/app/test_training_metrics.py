"""What Prometheus is told of retraining, by a real job."""

import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.jobs.job import JobRequest, JobState
from app.jobs.retraining import Retraining
from app.settings import Settings


def test_prometheus_is_told_of_jobs_loss_and_progress(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    retraining = Retraining(Settings(state_dir=tmp_path, gate_queries=100), registry)
    retraining.open()
    news = threading.Event()
    retraining.start(swap=lambda weights: None, on_change=news.set)
    try:
        assert _value(registry, "jobs_total", state="succeeded") == 0
        job = retraining.jobs.start(JobRequest(num_samples=200, num_epochs=2, batch_size=64))
        deadline = time.monotonic() + 60
        while not retraining.store.job(job.id).state.has_ended:
            assert time.monotonic() < deadline
            news.wait(1)
            news.clear()

        assert retraining.store.job(job.id).state is JobState.SUCCEEDED
        assert _value(registry, "jobs_total", state="succeeded") == 1
        assert _value(registry, "jobs_total", state="failed") == 0
        assert _value(registry, "progress") == 1
        assert _value(registry, "loss") == retraining.store.job(job.id).loss
    finally:
        retraining.stop()


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"menny_training_{name}", labels)
