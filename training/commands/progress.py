"""What is seen while Menny trains or is proven: a bar, or lines in a pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import TrainingConfig
from training.epoch import Epoch
from training.evaluation import Forward
from training.proof.estimate import LONG_S, estimate_seconds
from training.proof.queries import Plan
from training.proof.run import ProofProgress

_PROOF_LINES = 20  # in a pipe: one for each 5 %


@contextmanager
def show_progress(console: Console, config: TrainingConfig) -> Iterator[Callable[[Epoch], None]]:
    """Yield the function to call with each epoch's report, this process's own or another's."""
    if not console.is_terminal:
        yield lambda report: print(_line(report), file=console.file, flush=True)
        return
    words = "epoch {task.completed}/{task.total}", "{task.fields[figures]}"
    with _bar_between(*words, console) as progress:
        task = progress.add_task("", total=config.num_epochs, figures="")
        yield lambda report: progress.update(task, completed=report.epoch, figures=_figures(report))


@contextmanager
def show_proof_progress(console: Console) -> Iterator[Callable[[ProofProgress], None]]:
    """Yield the function to call with a proof's progress."""
    if not console.is_terminal:
        yield _ProofLines(console)
        return
    words = "{task.percentage:>3.0f} %", "{task.fields[violations]:,} violations"
    with _bar_between(*words, console) as progress:
        task = progress.add_task("", violations=0)
        yield lambda at: progress.update(
            task, completed=at.done, total=at.total, violations=at.violations
        )


def warn_of_long_proof(plan: Plan, processes: int, forward: Forward | None = None) -> None:
    """Warn on standard error, with the estimate, of a proof that would take over an hour here."""
    seconds = estimate_seconds(plan, processes, forward)
    if seconds > LONG_S:
        typer.echo(
            f"warning: a proof asks the model {plan.num_asked:,} queries, some "
            f"{seconds / 3600:,.1f} hours on this machine; `menny verify --sample 100000` asks a "
            "part of them",
            err=True,
        )


def _bar_between(before: str, after: str, console: Console) -> Progress:
    """A bar between words about its task, and the time that is left."""
    return Progress(
        TextColumn(before),
        BarColumn(bar_width=None),
        TextColumn(after),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        expand=True,
        speed_estimate_period=60,
    )


class _ProofLines:
    """A plain line at the start and for each 5 % done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._first: tuple[float, int] | None = None
        self._step = -1

    def __call__(self, at: ProofProgress) -> None:
        begin, already = self._first = self._first or (time.perf_counter(), at.done)
        step = at.done * _PROOF_LINES // at.total
        if step == self._step:
            return
        self._step = step
        line = f"{at.done / at.total:4.0%}  {at.violations:,} violations"
        if at.done > already:
            seconds = (time.perf_counter() - begin) / (at.done - already)
            line += f"  {seconds * (at.total - at.done):.0f} s left"
        print(line, file=self._console.file, flush=True)


def _figures(report: Epoch) -> str:
    return f"loss {report.loss:.4f}  rule_accuracy {report.validation.rule_accuracy:.4f}"


def _line(report: Epoch) -> str:
    return (
        f"epoch {report.epoch}/{report.num_epochs}  {_figures(report)}  "
        f"excess_nll {report.validation.excess_nll:.4f}  {report.seconds_left:.0f} s left"
    )
