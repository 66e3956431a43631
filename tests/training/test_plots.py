import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_proof import perfect
from training.dataset import ANSWERS, generate_dataset

pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install matplotlib)")

PNG = b"\x89PNG\r\n\x1a\n"


def test_train_draws_its_curve(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    subprocess.run(
        [sys.executable, "-m", "training", "--plot", picture, "--out", tmp_path / "menny.npz"]
        + ["--num-samples", "320", "--batch-size", "64", "--num-epochs", "3"]
        + ["--warm-up-steps", "0", "--num-fresh-queries", "500"],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size > 10_000


def test_evaluate_draws_its_report(tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    subprocess.run(
        [sys.executable, "-m", "app.cli", "evaluate", "--plot", picture, "--num-queries", "500"],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size < 150_000


@pytest.mark.default_rule
def test_the_matrix_is_of_shares() -> None:
    from training.plots import answers_by_letter

    dataset = generate_dataset(5000, np.random.default_rng(0))
    answers, probabilities = answers_by_letter(perfect, dataset)
    assert answers.sum(axis=1) == pytest.approx(np.ones(52))
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(52))
    of_vowels = np.take_along_axis(probabilities, ANSWERS.astype(np.intp), axis=1)
    assert of_vowels == pytest.approx(np.full((52, 5), 0.2))
