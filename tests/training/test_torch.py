import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.config import RECIPES, Recipe, TrainingConfig, recipe_config
from training.dataset import generate_dataset, generate_queries
from training.errors import MissingPackageError
from training.evaluation import evaluate
from training.trainer import MlxLearner, train
from training.weights import SHIPPED_WEIGHTS, load_weights

SHORT = recipe_config(Recipe.DEFAULT, num_samples=640, batch_size=64, num_epochs=2, warm_up_steps=3)


@pytest.fixture(scope="module")
def torch_menny() -> object:
    """The module, where PyTorch is installed."""
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch)")
    import training.torch_menny

    training.torch_menny.use_one_thread()
    return training.torch_menny


@pytest.mark.parametrize("num_queries", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mlx_and_torch_agree_within_1e_4(torch_menny, num_queries: int) -> None:
    parameters = load_weights(SHIPPED_WEIGHTS).parameters
    in_mlx, in_torch = MlxLearner(SHORT), torch_menny.TorchLearner(SHORT)
    in_mlx.load(dict(parameters))
    in_torch.load(parameters)
    queries = generate_queries(num_queries, np.random.default_rng(5))
    for start in range(0, len(queries), 500):
        batch = queries[start : start + 500]
        assert np.abs(in_mlx.forward(batch) - in_torch.forward(batch)).max() < 1e-4


def test_torch_has_the_parameters_of_an_npz(torch_menny) -> None:
    of_torch = torch_menny.TorchLearner(SHORT).parameters()
    of_mlx = MlxLearner(SHORT).parameters()
    assert {name: array.shape for name, array in of_torch.items()} == {
        name: array.shape for name, array in of_mlx.items()
    }


def test_fresh_weights_are_spread_alike(torch_menny) -> None:
    of_torch, of_mlx = torch_menny.TorchLearner(SHORT).parameters(), MlxLearner(SHORT).parameters()
    for name, array in of_mlx.items():
        if array.size > 1000:
            assert of_torch[name].std() == pytest.approx(array.std(), rel=0.1), name


@pytest.mark.parametrize("mask_padding", [True, False])
def test_from_the_same_weights_both_take_the_same_steps(torch_menny, mask_padding: bool) -> None:
    config = recipe_config(Recipe.DEFAULT, mask_padding=mask_padding)
    in_mlx, in_torch = MlxLearner(config), torch_menny.TorchLearner(config)
    in_torch.load(in_mlx.parameters())
    dataset = generate_dataset(3 * 64, np.random.default_rng(1))
    for start in range(0, len(dataset), 64):
        batch = dataset[start : start + 64]
        assert in_torch.step(batch) == pytest.approx(in_mlx.step(batch), abs=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_is_mlx_s_at_every_step(torch_menny, schedule: str) -> None:
    from training.backend import mx
    from training.optimizer import _learning_rate

    config = recipe_config(Recipe.DEFAULT, schedule=schedule, warm_up_steps=7, num_epochs=5)
    in_mlx = _learning_rate(config)
    for step in range(config.num_steps):
        expected = float(np.array(in_mlx(mx.array(step))))
        assert torch_menny.learning_rate_at(config, step) == pytest.approx(
            expected, rel=1e-4, abs=1e-8
        )


def test_the_seed_decides_and_the_process_s_generator_is_left_alone(torch_menny) -> None:
    import torch

    before = torch.get_rng_state()
    first, again = (torch_menny.TorchLearner(SHORT) for _ in range(2))
    other = torch_menny.TorchLearner(recipe_config(Recipe.DEFAULT, seed=8))
    assert torch.equal(torch.get_rng_state(), before)
    batch = generate_dataset(64, np.random.default_rng(2))
    losses = [[learner.step(batch) for _ in range(3)] for learner in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0][-1] < losses[0][0]


@pytest.mark.slow
def test_the_same_recipe_reaches_the_same_metrics(torch_menny) -> None:
    config: TrainingConfig = RECIPES[Recipe.DEFAULT]
    in_mlx = train(config).fresh
    in_torch = train(config, build_learner=torch_menny.TorchLearner).fresh
    assert in_torch.rule_accuracy == pytest.approx(in_mlx.rule_accuracy, abs=1e-3)
    assert in_torch.excess_nll == pytest.approx(in_mlx.excess_nll, abs=2e-3)


@pytest.mark.slow
def test_weights_from_torch_are_weights_like_any_other(torch_menny, tmp_path: Path) -> None:
    out = tmp_path / "torch.npz"
    options = ["--num-samples", "320", "--batch-size", "64", "--num-epochs", "2"]
    subprocess.run(
        [sys.executable, "-m", "training", "--framework", "torch", "--out", out, *options]
        + ["--warm-up-steps", "0"],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    weights = load_weights(out)
    card = json.loads(out.with_suffix(".json").read_text())
    assert "torch" in card["versions"]
    learner = MlxLearner(SHORT)
    learner.load(dict(weights.parameters))
    fresh = generate_dataset(256, np.random.default_rng(0))
    assert 0 <= evaluate(learner.forward, fresh).rule_accuracy <= 1


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["matplotlib"] = None  # as if they were not installed
sys.argv = ["menny", *sys.argv[1:]]
from app.cli import main
main()
"""


@pytest.mark.parametrize(
    ("options", "package"),
    [(["--framework", "torch"], "PyTorch"), (["--plot", "curve.png"], "matplotlib")],
)
def test_a_missing_package_is_named_with_the_remedy(
    options: list[str], package: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "train", "--out", tmp_path / "x.npz", *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {package} is not installed")
    assert "pip install" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_neither_torch_nor_matplotlib_is_imported_unasked() -> None:
    code = (
        "import sys, app.cli, app.main, training.trainer, training.proof.run;"
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_error_is_one_of_menny_s() -> None:
    from training.errors import MennyError

    assert issubclass(MissingPackageError, MennyError)
