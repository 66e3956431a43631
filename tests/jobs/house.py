"""Retraining without a server, MLX or child processes: for the variants of a promise.

    with house(tmp_path) as home:
        version = home.make(seed=1)             # a job from its start to its end
        home.versions.activate(version)
        assert home.engine.answers == version   # what /transform would say

The store, the files, the manager's thread and the gate are the real ones.
"""

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from app.jobs.job import Job, JobRequest, Promote
from app.jobs.metrics import JobMetrics
from app.jobs.retraining import Retraining
from app.scoreboard import Worker
from app.settings import Settings
from training.child.protocol import Event, Measurement, PhaseEvent, ProofEvent, SavedEvent
from training.config import TrainingConfig
from training.epoch import Epoch
from training.errors import WeightsError
from training.evaluation import Metrics
from training.proof.answers import table_path
from training.proof.check import Proof
from training.weights import SHIPPED_WEIGHTS, ModelCard, Weights, load_weights, save_weights

SHIPPED_FILE = load_weights(SHIPPED_WEIGHTS)
SHIPPED = SHIPPED_FILE.version

Check = Callable[[], None]


class ScriptedEngine:
    """Answers nothing, and is exact about which weights would."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.answers: str | None = None
        self.refuses: set[str] = set()
        """Versions that can't be built."""
        self.has_tables_of: set[str] = set()
        self.before_prepare: Callable[[], object] = lambda: None
        self.before_install: Callable[[], object] = lambda: None

    def look_up(self, weights: Weights, _: Path) -> SimpleNamespace:
        return SimpleNamespace(table="a table" if weights.version in self.has_tables_of else None)

    def look_up_again(self, weights: Weights, _: Path) -> None:
        self.has_tables_of.add(weights.version)

    def prepare(self, weights: Weights, _: Path) -> str:
        if weights.version in self.refuses:
            raise WeightsError("the engine won't")
        self.before_prepare()
        return weights.version

    def install(self, model: str) -> None:
        self.before_install()
        self.answers = model


def metrics_of(rule_accuracy: float = 1.0, excess_nll: float = 0.0005) -> Metrics:
    return SHIPPED_FILE.card.metrics.model_copy(
        update={"rule_accuracy": rule_accuracy, "excess_nll": excess_nll}
    )


def make_weights(seed: int) -> tuple[dict[str, Any], ModelCard]:
    """Weights of a seed, and their card; the same seed makes the same file."""
    parameters = dict(SHIPPED_FILE.parameters)
    parameters["fc.bias"] = np.full_like(parameters["fc.bias"], seed)
    return parameters, SHIPPED_FILE.card.model_copy(update={"sha256": ""})


@cache
def version_of(seed: int) -> str:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **make_weights(seed)[0])
    return hashlib.sha256(file.getvalue()).hexdigest()[:12]


class ScriptedChild:
    """A child process that is a generator of events in this process."""

    def __init__(self, events: Callable[[Check], Iterator[Event]]) -> None:
        self.events = events

    def __enter__(self) -> "ScriptedChild":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ScriptedChildren:
    """Children that train in no time; `in_phase` is called in each phase, to wait or to fail."""

    def __init__(
        self,
        in_phase: Callable[[str, Check], None] = lambda phase, check: None,
        proof: Proof = SHIPPED_FILE.card.proof,
    ) -> None:
        self.in_phase = in_phase
        self.measured: dict[str, Metrics] = {}
        """What is measured of a version; others are as good as the shipped one."""
        self.proof = proof
        """What every proof finds; the shipped version's table comes of one that holds."""
        self.num_proofs = self.num_trained = 0

    def train(self, job: Job, out: Path) -> ScriptedChild:
        def events(check: Check) -> Iterator[Event]:
            self.num_trained += 1
            self.in_phase("starting", check)
            yield PhaseEvent(phase="training")
            for number in range(1, job.config.num_epochs + 1):
                yield epoch(number, job.config.num_epochs)
                self.in_phase("training", check)
            yield PhaseEvent(phase="saving")
            self.in_phase("saving", check)
            parameters, card = make_weights(job.config.seed)
            card = card.model_copy(update={"config": job.config})
            yield SavedEvent(sha256=save_weights(out, parameters, card).sha256)

        return ScriptedChild(events)

    def measure(
        self, weights: list[Path], num_queries: int, not_of: TrainingConfig
    ) -> ScriptedChild:
        def events(check: Check) -> Iterator[Event]:
            self.in_phase("checking", check)
            for path in weights:
                found = load_weights(path)
                yield Measurement(
                    sha256=found.sha256, metrics=self.measured.get(found.version, metrics_of())
                )

        return ScriptedChild(events)

    def prove(self, weights: Path, cache: Path, out: Path) -> ScriptedChild:
        def events(check: Check) -> Iterator[Event]:
            self.num_proofs += 1
            yield ProofEvent(done=0, total=2)
            self.in_phase("proving", check)
            yield ProofEvent(done=1, total=2)
            proof = self.proof.model_copy(update={"sha256": load_weights(weights).sha256})
            if proof.holds:
                shutil.copy(table_path(SHIPPED_WEIGHTS), out)
            yield ProofEvent(done=2, total=2, proof=proof)

        return ScriptedChild(events)


def epoch(number: int, num_epochs: int) -> Epoch:
    return Epoch(
        epoch=number,
        num_epochs=num_epochs,
        loss=1.7,
        validation=metrics_of(),
        seconds=1,
        seconds_left=5,
    )


def wait_forever(in_phase: str) -> Callable[[str, Check], None]:
    """For `in_phase`: a child that does nothing any more in one phase."""

    def wait(phase: str, check: Check) -> None:
        while phase == in_phase:
            check()
            time.sleep(0.01)

    return wait


class Home:
    """A state directory and what works on it."""

    def __init__(
        self, state: Path, children: Any = None, worker: Worker | None = None, **settings: Any
    ) -> None:
        self.state = state
        self.worker = worker
        self.engine = ScriptedEngine()
        self.children = children or ScriptedChildren()
        self.registry = CollectorRegistry()
        self.settings = Settings(
            **{"state_dir": state, "gate_queries": 100, "prove": "never"} | settings
        )
        self.retraining = Retraining(
            self.settings, self.engine, JobMetrics(self.registry), self.children, worker
        )
        self.retraining.start()
        self.retraining.reload()

    @property
    def store(self) -> Any:
        return self.retraining.store

    @property
    def versions(self) -> Any:
        return self.retraining.versions

    def file(self, version: str) -> Path:
        return self.state / "versions" / f"{version}.npz"

    def start_job(self, seed: int = 1, promote: str = "never", num_epochs: int = 1) -> int:
        request = JobRequest(seed=seed, promote=Promote(promote), num_epochs=num_epochs)
        return self.store.create_job(request.recipe, request.config(), request.promote).id

    def wait_for(self, job_id: int, happened: Callable[[Job], bool]) -> Job:
        deadline = time.monotonic() + 120
        while not happened(job := self.store.get_job(job_id)):
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
        return job

    def run_job(self, seed: int = 1, promote: str = "never", num_epochs: int = 1) -> Job:
        job_id = self.start_job(seed, promote, num_epochs)
        return self.wait_for(job_id, lambda job: job.state.has_ended)

    def make(self, seed: int = 1, promote: str = "never") -> str:
        job = self.run_job(seed, promote)
        assert job.version is not None, job.reason
        return job.version

    def listed(self) -> list[str]:
        return [version.version for version in self.versions.list_all()]

    def active(self) -> list[str]:
        return [version.version for version in self.versions.list_all() if version.active]


@contextmanager
def house(state: Path, **settings: Any) -> Iterator[Home]:
    home = Home(state, **settings)
    try:
        yield home
    finally:
        home.retraining.stop()


def shipped_copy(folder: Path) -> Path:
    """Shipped weights that a test may replace."""
    path = folder / "menny.npz"
    save_weights(path, SHIPPED_FILE.parameters, SHIPPED_FILE.card)
    return path
