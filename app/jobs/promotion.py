"""The promotion gate: whether a new version is good enough to replace the active one.

Both are measured on the same fresh queries by a process that the service starts for it, on files
that the service has checked: what the training process says of its own work counts for nothing.
"""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from app.jobs.job import GateReport
from app.jobs.runner import Child, ChildError
from training.child.protocol import Measurement, MeasuringTask
from training.config import TrainingConfig
from training.evaluation import Metrics


@dataclass(frozen=True)
class GateRules:
    """What a version has to reach, and on how many queries it is measured."""

    num_queries: int
    min_rule_accuracy: float
    excess_nll_tolerance: float


@dataclass(frozen=True)
class Measurable:
    """A weights file, and the SHA-256 that it had when it was checked."""

    path: Path
    sha256: str


Run = Callable[[Child], AbstractContextManager[Child]]
"""Starts a child so that the job's cancellation reaches it."""


def measure(
    files: list[Measurable], config: TrainingConfig, rules: GateRules, run: Run
) -> list[Metrics]:
    """Measure the files on the same queries, none of which a run of `config` trains on.

    Raises `ChildError`.
    """
    task = MeasuringTask(
        weights=[file.path for file in files],
        num_queries=rules.num_queries,
        seed=secrets.randbits(32),
        not_of=config,
    )
    with run(Child("the measuring process", task)) as child:
        found = [event for event in child.events() if isinstance(event, Measurement)]
    if [measurement.sha256 for measurement in found] != [file.sha256 for file in files]:
        raise ChildError("the weights changed while they were measured")
    return [measurement.metrics for measurement in found]


def judge(
    candidate: Metrics, active: Metrics | None, active_version: str | None, rules: GateRules
) -> GateReport:
    """Whether the candidate may replace the active version, and why."""
    faults = []
    if candidate.rule_accuracy < rules.min_rule_accuracy:
        faults.append(
            f"its rule_accuracy is {candidate.rule_accuracy:.6f}, below {rules.min_rule_accuracy:g}"
        )
    if active and candidate.excess_nll > active.excess_nll + rules.excess_nll_tolerance:
        faults.append(
            f"its excess_nll is {candidate.excess_nll:.6f}, above the {active.excess_nll:.6f} of "
            f"version {active_version} by more than {rules.excess_nll_tolerance:g}"
        )
    figures = f"rule_accuracy {candidate.rule_accuracy:.6f}, excess_nll {candidate.excess_nll:.6f}"
    return GateReport(
        passed=not faults,
        verdict=" and ".join(faults) or f"it passed the gate ({figures})",
        min_rule_accuracy=rules.min_rule_accuracy,
        excess_nll_tolerance=rules.excess_nll_tolerance,
        candidate=candidate,
        active=active,
        active_version=active_version,
    )
