"""What a child process does: it trains, measures or proves, and tells its standard output.

The service trains in one process, and measures what came of it in another: what a model is worth
is never taken on the word of the process that trained it.
"""

import sys

import numpy as np

from training.backend import mlx_on_this_thread, use_device
from training.child.protocol import (
    AnyTask,
    Event,
    Measurement,
    MeasuringTask,
    PhaseEvent,
    ProofEvent,
    ProvingTask,
    SavedEvent,
    TrainingTask,
    write_event,
)
from training.evaluation import evaluate, fresh_dataset
from training.model import build_model
from training.proof.answers import save_table
from training.proof.queries import Plan
from training.proof.run import ProofProgress, prove
from training.trainer import codes_trained_on, forward_of, train
from training.weights import load_weights, save_weights


def _tell(event: Event) -> None:
    write_event(event, sys.stdout)


def _train(task: TrainingTask) -> None:
    _tell(PhaseEvent(phase="training"))
    result = train(task.config, num_fresh_queries=task.num_fresh_queries, on_epoch=_tell)
    _tell(PhaseEvent(phase="saving"))
    card = save_weights(task.out, result.parameters, result.card(task.recipe))
    _tell(SavedEvent(sha256=card.sha256))


def _measure(task: MeasuringTask) -> None:
    rng = np.random.default_rng(task.seed)
    dataset = fresh_dataset(task.num_queries, rng, codes_trained_on(task.not_of))
    for path in task.weights:
        checked = load_weights(path)
        metrics = evaluate(forward_of(build_model(checked.parameters)), dataset)
        _tell(Measurement(sha256=checked.sha256, metrics=metrics))


def _prove(task: ProvingTask) -> None:
    reached = ProofEvent(done=0, total=1)

    def tell(progress: ProofProgress) -> None:
        nonlocal reached
        reached = ProofEvent(done=progress.done, total=progress.total)
        _tell(reached)

    outcome = prove(
        load_weights(task.weights),
        Plan(),
        cache=task.cache,
        on_progress=tell,
        at_first_violation=True,
    )
    if outcome.table is not None:
        save_table(task.out, outcome.table)
    _tell(reached.model_copy(update={"proof": outcome.proof}))


def do(task: AnyTask) -> None:
    """Do a task, and write its events; raises `MennyError`."""
    if isinstance(task, ProvingTask):  # without MLX
        _prove(task)
        return
    with mlx_on_this_thread():
        use_device(task.device)
        _train(task) if isinstance(task, TrainingTask) else _measure(task)
