"""What a person sees while Menny trains: a bar on a terminal, plain lines in a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.config import TrainingConfig
from training.trainer import EpochReport


@contextmanager
def show_progress(
    console: Console, config: TrainingConfig
) -> Iterator[Callable[[EpochReport], None]]:
    """Yield the function to call with each epoch's report."""
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


def _figures(report: EpochReport) -> str:
    return f"loss {report.loss:.4f}  rule_accuracy {report.validation.rule_accuracy:.4f}"


def _line(report: EpochReport) -> str:
    return (
        f"epoch {report.epoch}/{report.num_epochs}  {_figures(report)}  "
        f"excess_nll {report.validation.excess_nll:.4f}  {report.seconds_left:.0f} s left"
    )
