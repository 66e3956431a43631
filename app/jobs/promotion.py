"""The promotion gate: whether a new version is good enough to replace the active one.

Both are measured on the same fresh queries by a process that the service starts for it, on files
that the service has checked: what the training process says of its own work counts for nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.jobs.job import GateReport
from app.jobs.runner import ChildError
from training.child.protocol import Event, Measurement
from training.evaluation import Metrics


@dataclass(frozen=True)
class GateRules:
    """What a version has to reach, and on how many queries it is measured."""

    num_queries: int
    min_rule_accuracy: float
    excess_nll_tolerance: float


def measurements(events: Iterable[Event], sha256s: list[str]) -> list[Metrics]:
    """What a measuring process reports of files; raises `ChildError`.

    `sha256s` are those that the files had when they were checked.
    """
    found = [event for event in events if isinstance(event, Measurement)]
    if [measurement.sha256 for measurement in found] != sha256s:
        raise ChildError("the weights changed while they were measured")
    return [measurement.metrics for measurement in found]


def judge(
    candidate: Metrics,
    active: Metrics | None,
    active_version: str | None,
    rules: GateRules,
    *,
    is_unreadable: bool = False,
) -> GateReport:
    """Whether the candidate may replace the active version, and why.

    `active` is `None` if there is no model that answers; or, `is_unreadable`, there is one, but
    its file has not its weights.
    """
    faults = []
    if is_unreadable:
        faults.append(
            "it can't be compared with the version that answers, whose file is missing, damaged "
            "or another's"
        )
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
