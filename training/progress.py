"""What is seen while Menny trains: a bar on a terminal, lines in a pipe, JSON for a program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import TrainingConfig
from training.events import EpochEvent, PhaseEvent, write_event
from training.trainer import EpochReport


@contextmanager
def show_progress(
    console: Console, config: TrainingConfig
) -> Iterator[Callable[[EpochReport | EpochEvent], None]]:
    """Yield the function to call with each epoch's report, this process's own or another's."""
    if not console.is_terminal:
        yield lambda report: print(_line(report), file=console.file, flush=True)
        return
    columns = (
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("", total=config.num_epochs, figures="")
        yield lambda report: progress.update(task, completed=report.epoch, figures=_figures(report))


@contextmanager
def json_progress(stream: TextIO) -> Iterator[Callable[[EpochReport], None]]:
    """Like `show_progress`, for a program: each report is a line of JSON (`training.events`)."""
    write_event(PhaseEvent(phase="training"), stream)
    yield lambda report: write_event(event_of(report), stream)


def event_of(report: EpochReport) -> EpochEvent:
    """The report as it is sent to another process."""
    return EpochEvent(
        epoch=report.epoch,
        num_epochs=report.num_epochs,
        loss=report.loss,
        validation=report.validation,
        seconds=report.seconds,
        seconds_left=report.seconds_left,
    )


def _figures(report: EpochReport | EpochEvent) -> str:
    return f"loss {report.loss:.4f}  rule_accuracy {report.validation.rule_accuracy:.4f}"


def _line(report: EpochReport | EpochEvent) -> str:
    return (
        f"epoch {report.epoch}/{report.num_epochs}  {_figures(report)}  "
        f"excess_nll {report.validation.excess_nll:.4f}  {report.seconds_left:.0f} s left"
    )
