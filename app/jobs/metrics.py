"""What Prometheus is told of retraining."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.jobs.job import JobState


class JobMetrics:
    """Jobs by their end, and how the running one is getting on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Counter(
            "menny_training_jobs_total",
            "Training jobs that have ended, by how",
            ["state"],
            registry=registry,
        )
        for state in JobState:
            if state.has_ended:
                self.jobs.labels(state=state.value)  # there, with 0, before the first one
        self.loss = Gauge(
            "menny_training_loss",
            "Loss of the latest epoch of the latest training job, nats a letter",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.progress = Gauge(
            "menny_training_progress",
            "Share of the epochs that the latest training job has done, 0 to 1",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

        self.proofs = Counter(
            "menny_proofs_total",
            "Proofs in the background that have ended, by how: proven, refuted or failed",
            ["verdict"],
            registry=registry,
        )
        self.proof_progress = Gauge(
            "menny_proof_progress",
            "Share of all queries that the latest proof has asked, 0 to 1",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def begin(self) -> None:
        """A new job is the latest one."""
        self.progress.set(0)
        self.loss.set(float("nan"))
