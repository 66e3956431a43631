"""Pictures of a training run and of what Menny says (optional package: `matplotlib`).

Figures are built without `pyplot`: no window, no state that outlives the call.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.dataset import ANSWERS, NUM_ANSWERS, Dataset
from training.errors import MissingPackageError, PlotError
from training.evaluation import BATCH_SIZE, BEST_NLL, Forward, Metrics
from training.trainer import TrainingResult
from training.vocabulary import ALPHABET, PADDING, VOCABULARY_SIZE

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise MissingPackageError(
        f"matplotlib is not installed ({error}): `pip install matplotlib` where Menny is installed"
    ) from None

INK, FLOOR, LOSS, ACCURACY = "#333333", "#888888", "#3465a4", "#4e9a06"
ANSWER_COLOURS = ["#3465a4", "#f57900", "#4e9a06", "#cc0000", "#75507b"]


def plot_training(result: TrainingResult, path: Path) -> None:
    """Loss against its floor, and the rule accuracy, over the steps of a training run."""
    config, history = result.config, result.history
    steps = [report.epoch * config.steps_per_epoch for report in history]
    figure, (above, below) = _figure((8, 6), rows=2)

    above.plot(steps, [report.loss for report in history], color=LOSS, label="training loss")
    if config.mask_padding:
        above.plot(
            steps,
            [report.validation.excess_nll + BEST_NLL for report in history],
            color="#f57900",
            linewidth=1,
            label="validation, against the true distribution",
        )
    above.axhline(BEST_NLL, color=FLOOR, linestyle="--", linewidth=1)
    above.annotate(
        f"{BEST_NLL:.3f}: nobody can do better on fresh labels",
        (1, BEST_NLL),
        xycoords=("axes fraction", "data"),
        xytext=(-4, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FLOOR,
    )
    above.set(ylabel="nats a letter", title="Loss")
    above.set_ylim(bottom=0, top=_top([report.loss for report in history]))
    above.legend(frameon=False, loc="upper right")

    part = "the validation part" if config.hold_out else "the very queries trained on"
    below.plot(
        steps, [report.validation.rule_accuracy for report in history], color=ACCURACY, marker="."
    )
    below.axhline(1, color=FLOOR, linestyle="--", linewidth=1)
    below.yaxis.set_major_formatter(PercentFormatter(1))
    below.set(ylabel="of letters", xlabel="optimizer steps", title=f"Rule accuracy on {part}")
    _save(figure, path)


def plot_evaluation(
    forward: Forward, dataset: Dataset, metrics: Metrics, title: str, path: Path
) -> None:
    """The V x V matrix of answers, and how each letter's answers spread over the allowed ones."""
    answers, probabilities = answers_by_letter(forward, dataset)
    figure, (left, right) = _figure((13, 7.5), columns=2)
    figure.suptitle(
        f"{title}\nrule_accuracy {metrics.rule_accuracy:.2%}, excess_nll {metrics.excess_nll:.4f}, "
        f"{metrics.num_queries:,} queries"
    )

    image = left.imshow(answers, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="equal")
    ticks = range(VOCABULARY_SIZE)
    left.set_xticks(ticks, list(ALPHABET), fontsize=6)
    left.set_yticks(ticks, list(ALPHABET), fontsize=6)
    left.set(xlabel="answer", ylabel="letter of the query", title="Share of the likeliest answers")
    for letter in ticks[1:]:
        if ALPHABET[letter].isupper() != ALPHABET[letter - 1].isupper():
            left.axhline(letter - 0.5, color=FLOOR, linewidth=0.5)
            left.axvline(letter - 0.5, color=FLOOR, linewidth=0.5)
    bar = figure.colorbar(image, ax=left, shrink=0.6, format=PercentFormatter(1))
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1])

    of_answers = np.take_along_axis(probabilities, ANSWERS.astype(np.intp), axis=1)  # (V, N)
    from_left = np.zeros(VOCABULARY_SIZE)
    for answer in range(ANSWERS.shape[1]):
        share = np.where(answer < NUM_ANSWERS, of_answers[:, answer], 0)
        right.barh(
            ticks,
            share,
            left=from_left,
            color=ANSWER_COLOURS[answer % len(ANSWER_COLOURS)],
            height=0.85,
            label=f"answer {answer + 1}" if answer < len(ANSWER_COLOURS) else None,
        )
        middle = np.array(ticks)
        right.vlines(answer / NUM_ANSWERS, middle - 0.5, middle + 0.5, "white", "--", linewidth=1)
        from_left += share
    right.barh(ticks, 1 - from_left, left=from_left, color=INK, height=0.85, label="forbidden")
    right.set_yticks(ticks, list(ALPHABET), fontsize=6)
    right.set(xlim=(0, 1), ylim=(VOCABULARY_SIZE - 0.5, -0.5), xlabel="mean probability")
    right.set_title("Distribution over the allowed answers (dashed: uniform)")
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.legend(frameon=False, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.07))
    _save(figure, path)


def answers_by_letter(
    forward: Forward, dataset: Dataset
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each letter, the shares of the likeliest answers and the mean probabilities, (V, V)."""
    counts = np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE))
    totals = np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE))
    for start in range(0, len(dataset), BATCH_SIZE):
        queries = dataset.queries[start : start + BATCH_SIZE]
        is_letter = queries != PADDING
        logits = forward(queries)[is_letter].astype(np.float64)  # (N, V)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        letters = queries[is_letter]
        np.add.at(counts, (letters, logits.argmax(axis=-1)), 1)
        np.add.at(totals, letters, powers / powers.sum(axis=-1, keepdims=True))
    seen = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return counts / seen, totals / seen


def _figure(
    size: tuple[float, float], rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns).flat)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK)
    return figure, axes


def _top(losses: list[float]) -> float:
    return max(2.0, 1.05 * max(losses))


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: a name that ends in no picture format
        raise PlotError(f"can't write {path}: {error}") from None
