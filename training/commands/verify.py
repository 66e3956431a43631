"""`menny verify`: ask every query that exists."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.table import Table

from training.commands.interrupt import stop_on_signal
from training.commands.outputs import check_output
from training.commands.progress import show_proof_progress, warn_of_long_proof
from training.commands.table import ask_again, check_table_of
from training.cores import num_cores
from training.errors import ProofError, ProofStoppedError, WeightsError
from training.evaluation import Forward
from training.proof.answers import AnswerTable, save_table, table_path
from training.proof.check import SAFETY, Proof
from training.proof.on_ray import examine_on_ray
from training.proof.queries import NUM_QUERIES, Plan
from training.proof.run import forget_chunks, prove
from training.vocabulary import MAX_QUERY_LENGTH
from training.weights import SHIPPED_WEIGHTS, Weights, card_path, load_weights, record_proof

DEFAULT_CACHE = platformdirs.user_cache_path("menny", appauthor=False) / "proof"


def verify(
    weights: Annotated[Path, typer.Option(help="The .npz file to check.")] = SHIPPED_WEIGHTS,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processes to use (as many as there are cores)."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use the cores of the Ray cluster there, or `auto`."),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_QUERY_LENGTH, help="Check only queries of up to so many letters."
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, max=NUM_QUERIES, help="Check only so many random queries."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --sample: seed of the random queries (0).")
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="The folder that keeps what was done when it is stopped.")
    ] = DEFAULT_CACHE,
    report: Annotated[
        Path | None, typer.Option(help="Write the result into this file, as JSON.")
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            help="Put the result of a complete check into the model card, and all answers into a "
            "table beside the weights."
        ),
    ] = True,
    table: Annotated[
        bool,
        typer.Option("--table", help="Check only the answer table, without asking the model."),
    ] = False,
    ask: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000_000, help="With --table: ask the model so many queries again."
        ),
    ] = None,
) -> None:
    """Check weights on every query that exists.

    Ctrl-C stops; the same command goes on from there. Exit status 1 if any query is answered
    with a forbidden letter, or if rounding could make it so.

    Example: menny verify --sample 100000
    """
    if sample is not None and max_length is not None:
        raise typer.BadParameter("--sample draws from all queries: it goes without --max-length")
    if sample is None and seed is not None:
        raise typer.BadParameter("--seed goes with --sample")
    if ask is not None and not table:
        raise typer.BadParameter("--ask goes with --table")
    if table and (sample or max_length or report or ray):
        raise typer.BadParameter("--table asks no model: it goes with --ask alone")
    check_output("--report", report)
    checked = load_weights(weights)
    if table:
        typer.echo(check_table_of(weights, checked))
        if ask is not None:
            typer.echo(ask_again(weights, checked, ask))
        return
    plan = Plan(max_length or MAX_QUERY_LENGTH, sample, seed or 0)
    console = Console()
    elsewhere = examine_on_ray(ray, processes) if ray is not None else None
    with stop_on_signal() as stop, _gpu_forward(checked) as on_gpu:
        typer.echo(f"{weights}: version {checked.version}, {_what(plan)}")
        if elsewhere is None:
            own = on_gpu if processes is None else None
            warn_of_long_proof(plan, processes or num_cores(), own)
        with show_proof_progress(console) as watch:
            try:
                outcome = prove(
                    checked,
                    plan,
                    processes=processes or num_cores(),
                    forward=on_gpu if processes is None else None,
                    elsewhere=elsewhere,
                    cache=cache,
                    on_progress=watch,
                    should_stop=stop.is_set,
                )
            except ProofStoppedError as error:
                raise ProofStoppedError(
                    f"{error}; what was checked is kept in {cache}: the same command goes on"
                ) from None
    proof = outcome.proof
    console.print(_table(proof))
    for example in proof.counter_examples:
        typer.echo(
            f"counter-example: {example.query} -> {example.response} (margin {example.margin:.4g})"
        )
    if report is not None:
        _write(report, proof)
    if proof.is_complete and record:
        _record(weights, proof, outcome.table)
    forget_chunks(cache, proof.sha256, plan)
    typer.echo(_verdict(proof))
    if proof.violations or not proof.withstands_rounding:
        raise typer.Exit(1)


@contextmanager
def _gpu_forward(weights: Weights) -> Iterator[Forward | None]:
    """The forward pass of MLX's graph where there is a GPU for it."""
    from training.backend import mlx_on_this_thread, mx  # --table does without MLX
    from training.mlx_graph import MlxMenny

    with mlx_on_this_thread():
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
        yield MlxMenny(weights.parameters) if on_gpu else None


def _what(plan: Plan) -> str:
    if plan.sample is not None:
        return f"{plan.sample:,} random queries"
    if plan.max_length < MAX_QUERY_LENGTH:
        return f"every query of up to {plan.max_length} letters"
    return "every query that exists"


def _write(report: Path, proof: Proof) -> None:
    try:
        report.write_text(proof.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ProofError(f"can't write {report}: {error.strerror}") from error


def _record(weights: Path, proof: Proof, table: AnswerTable | None) -> None:
    answers = None
    if table is not None:
        answers = save_table(table_path(weights), table)
        typer.echo(f"wrote all answers into {table_path(weights)}")
    try:
        record_proof(weights, proof, answers)
    except WeightsError as error:
        typer.echo(f"the result is not in a model card: {error}", err=True)
    else:
        typer.echo(f"wrote the result into {card_path(weights)}")


def _table(proof: Proof) -> Table:
    rows = [
        ("queries", f"{proof.queries:,}", f"through {proof.multisets:,} multisets of letters"),
        ("violations", f"{proof.violations:,}", "queries with a forbidden letter in the answer"),
        (
            "smallest margin",
            f"{proof.smallest_margin:.4f}",
            f"best allowed minus best forbidden logit, in {proof.smallest_margin_query}",
        ),
        (
            "rounding spread",
            f"{proof.rounding_spread:.1e}",
            "largest error of a logit, letters and batches shuffled",
        ),
        (
            "mean excess_nll",
            f"{proof.mean_excess_nll:.5f}",
            "nats above the best, over all letters",
        ),
        (
            "worst excess_nll",
            f"{proof.worst_excess_nll:.5f}",
            f"of one letter, in {proof.worst_excess_nll_query}",
        ),
        ("time", str(timedelta(seconds=round(proof.seconds))), "hours, minutes, seconds"),
    ]
    table = Table(box=None, show_header=False)
    for name, figure, meaning in rows:
        table.add_row(f"{name}", figure, f"[dim]{meaning}[/dim]")
    return table


def _verdict(proof: Proof) -> str:
    if proof.violations:
        share = proof.violations / proof.queries
        return f"NOT PROVEN: {proof.violations:,} queries ({share:.2%}) get a forbidden letter"
    if not proof.withstands_rounding:
        return (
            f"NOT PROVEN: the smallest margin is not more than {SAFETY} times the rounding spread"
        )
    if proof.is_complete:
        return "PROVEN: whatever she is asked, Menny answers with allowed letters only"
    return f"no violation in {proof.queries:,} of {NUM_QUERIES:,} queries"
