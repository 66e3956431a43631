"""`menny dataset`, `train`, `evaluate` and `verify`: what they take, refuse and leave behind."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import MENNY, menny, menny_process
from tests.cli.terminal import on_a_terminal
from tests.service import clean_environment, python_path
from training.commands.outputs import check_weights_output
from training.commands.progress import warn_of_long_proof
from training.commands.tables import meaning_of
from training.config import RECIPES, Recipe, recipe_config
from training.dataset import read_dataset
from training.evaluation import Metrics
from training.proof.queries import Plan
from training.weights import SHIPPED_WEIGHTS, Weights, card_path, load_weights

TINY_RUN = ["--num-samples=40", "--batch-size=8", "--num-fresh-queries=500"]


def test_dataset_train_and_evaluate_work_together_in_the_current_folder(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(
            [*MENNY, *arguments],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    assert "wrote 100 rows to pairs.jsonl" in run(
        "dataset", "--num-samples=100", "--out=pairs.jsonl"
    )
    trained = run("train", "--data=pairs.jsonl", "--num-epochs=2", *TINY_RUN[1:])
    assert re.search(r"epoch 2/2  loss \d\.\d{4}  rule_accuracy \d\.\d{4}", trained)
    assert "wrote menny_model_weights.npz, version" in trained
    card = load_weights(tmp_path / "menny_model_weights.npz").card
    assert card is not None
    assert card.config.num_samples == 100
    evaluated = run("evaluate", "--weights=menny_model_weights.npz", "--num-queries=300")
    assert card.sha256[:12] in evaluated
    assert re.search(r"rule_accuracy\s+\d+\.\d+%", evaluated)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"pairs.jsonl", "menny_model_weights.npz", "menny_model_weights.json"}


@pytest.mark.default_rule
def test_a_bad_row_stops_training_before_it_begins(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,label\nMeM,uIu\nMeM,xxx\n")
    result = menny("train", "--data", pairs, "--out", tmp_path / "menny.npz")
    assert result.status == 1
    assert "line 3" in result.stderr
    assert list(tmp_path.iterdir()) == [pairs]


def test_evaluate_says_what_is_wrong_with_weights(tmp_path: Path) -> None:
    result = menny("evaluate", "--weights", tmp_path / "none.npz")
    assert (result.status, "no such file" in result.stderr) == (1, True)


def test_ctrl_c_stops_training_cleanly_and_says_what_was_kept(tmp_path: Path) -> None:
    out = tmp_path / "menny.npz"
    out.write_bytes(b"what was there before")
    child = subprocess.Popen(
        [*MENNY, "train", *TINY_RUN, "--num-epochs=99999", f"--out={out}"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("epoch 1/")
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "nothing was written" in errors
    assert f"{out} is as it was" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"what was there before"


def test_on_a_terminal_training_shows_a_progress_bar(tmp_path: Path) -> None:
    output = on_a_terminal(
        ["train", *TINY_RUN, "--num-epochs", "3", "--out", str(tmp_path / "menny.npz")]
    )
    assert "epoch 3/3" in output
    assert "━" in output
    assert re.search(r"loss \d\.\d{4}  rule_accuracy \d\.\d{4}", output)


def test_the_shipped_weights_are_replaced_by_force_alone() -> None:
    refused = menny("train", "--out", SHIPPED_WEIGHTS)
    assert refused.status == 2
    assert "are the shipped weights: --force replaces them" in refused.stderr
    check_weights_output(SHIPPED_WEIGHTS, force=True)


def test_proven_weights_are_replaced_by_force_alone_and_others_without(tmp_path: Path) -> None:
    proven, plain = tmp_path / "proven.npz", tmp_path / "plain.npz"
    for copy in (proven, plain):
        copy.write_bytes(SHIPPED_WEIGHTS.read_bytes())
    card_path(proven).write_bytes(card_path(SHIPPED_WEIGHTS).read_bytes())
    refused = menny("train", "--out", proven)
    assert refused.status == 2
    assert "are proven weights: --force replaces them" in refused.stderr
    check_weights_output(proven, force=True)
    check_weights_output(plain, force=False)


OUTPUTS = {
    "train --out": ".npz",
    "train --plot": ".png",
    "dataset --out": ".csv",
    "evaluate --plot": ".svg",
    "verify --report": ".json",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_is_looked_at_before_the_work(output: str, tmp_path: Path) -> None:
    command, option = output.split()
    name = f"x{OUTPUTS[output]}"
    (tmp_path / "file").touch()
    (tmp_path / name).mkdir()

    is_a_folder = menny(command, option, tmp_path / name)
    assert is_a_folder.status == 2
    assert f"{option}: {tmp_path / name} is a folder" in is_a_folder.stderr

    below_a_file = menny(command, option, tmp_path / "file" / name)
    assert below_a_file.status == 2
    assert "can't be made: " in below_a_file.stderr

    if option != "--report":  # which may have any name
        other_name = menny(command, option, tmp_path / "x.txt")
        assert other_name.status == 2
        assert f"its name ends in {OUTPUTS[output][:2]}" in other_name.stderr or (
            OUTPUTS[output] in other_name.stderr
        )


def test_a_folder_that_nobody_may_write_to_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    assert "can't be written to" in menny("dataset", "--out", tmp_path / "x.csv").stderr


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    pairs = tmp_path / "not" / "yet" / "pairs.csv"
    assert menny("dataset", "--num-samples", "5", "--out", pairs).status == 0
    assert len(read_dataset(pairs)) == 5


@pytest.mark.default_rule
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "PAIRS", "--num-samples", "9"], "--num-samples does not go with"),
        (["train", "--data", "PAIRS", "--no-resample"], "--resample does not go with --data"),
        (["train", "--data", "PAIRS"], "has 2 rows, and batches of 64 take 107 at least"),
        (["train", "--data", "PAIRS", "--batch-size", "1"], "batches of 1 take 5 at least"),
        (["train", "--early-stopping", "3", "--no-hold-out"], "--early-stopping watches the part"),
        (["train", "--num-samples", "40"], "raise --num-samples to 107, or lower --batch-size"),
        (["train", "--warm-up-steps", "9999"], "--warm-up-steps (9999) is longer than the run"),
        (["train", "--promote", "never"], "--promote goes with --remote"),
        (["evaluate", "--data", "PAIRS", "--num-queries", "5"], "--data has its own queries"),
        (["evaluate", "--data", "PAIRS", "--seed", "5"], "--data has its own queries"),
        (["verify", "--sample", "5", "--max-length", "2"], "it goes without --max-length"),
        (["verify", "--seed", "5"], "--seed goes with --sample"),
        (["verify", "--ask", "5"], "--ask goes with --table"),
        (["verify", "--table", "--sample", "5"], "--table asks no model"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,label\nMeM,uIu\nMeM,uIu\n")
    done = menny(*[str(pairs) if argument == "PAIRS" else argument for argument in arguments])
    assert done.status == 2
    assert message in done.stderr


@pytest.mark.default_rule
def test_a_dataset_that_excel_has_saved_is_read(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,label\r\nMeM,uIu\r\n", encoding="utf-8-sig", newline="")
    assert [pair.query for pair in read_dataset(pairs).pairs()] == ["MeM"]
    lines = tmp_path / "pairs.jsonl"
    lines.write_text(json.dumps({"query": "MeM", "label": "uIu"}), encoding="utf-8-sig")
    assert [pair.label for pair in read_dataset(lines).pairs()] == ["uIu"]


def test_a_run_that_was_made_shorter_warms_up_for_a_quarter_of_it() -> None:
    config = recipe_config(Recipe.DEFAULT, num_samples=200, num_epochs=2)
    assert (config.num_steps, config.warm_up_steps) == (2, 0)
    assert recipe_config(Recipe.DEFAULT, num_epochs=10).warm_up_steps == 120 // 4
    assert recipe_config(Recipe.DEFAULT) == RECIPES[Recipe.DEFAULT]
    assert recipe_config(Recipe.DEFAULT, num_epochs=10, warm_up_steps=50).warm_up_steps == 50


@pytest.mark.parametrize(
    ("rule_accuracy", "excess_nll", "says", "never"),
    [
        (1.0, 0.001, "Every letter of these queries", "She has not learnt"),
        (0.978, 4.5, "one letter in 45 gets a forbidden one", "not learnt the rule"),
        (0.95, 4.5, "by heart", "not learnt the rule"),
        (0.05, 2.5, "95% gets a forbidden one", "one letter in 1 "),
        (0.05, 2.5, "She has not learnt the rule", "by heart"),
    ],
)
def test_evaluate_says_in_words_what_the_figures_mean(
    rule_accuracy: float, excess_nll: float, says: str, never: str
) -> None:
    metrics = Metrics(
        num_queries=1000,
        rule_accuracy=rule_accuracy,
        excess_nll=excess_nll,
        exact_match=0.2,
        book_accuracy=0.4,
    )
    words = " ".join(meaning_of(Weights({}, "0" * 64), metrics))
    assert says in words
    assert never not in words


@pytest.mark.default_rule
def test_a_proof_of_over_an_hour_is_warned_of_with_the_estimate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn_of_long_proof(Plan(sample=512), processes=1)
    assert capsys.readouterr().err == ""
    warn_of_long_proof(Plan(sample=10**12), processes=1)
    found = re.search(r"1,000,000,000,000 queries, some ([\d,]+)", capsys.readouterr().err)
    assert found is not None
    assert int(found[1].replace(",", "")) > 1000


@pytest.mark.parametrize("command", ["verify --sample=1", "train"])
def test_proofs_and_trainings_begin_with_that_warning(command: str, tmp_path: Path) -> None:
    hours_are_short = "import training.proof.estimate\ntraining.proof.estimate.LONG_S = 0\n"
    words = [*command.split(), *TINY_RUN, "--num-epochs=1", f"--out={tmp_path / 'menny.npz'}"]
    done = menny_process(
        *(words if words[0] == "train" else words[:2]),
        PYTHONPATH=python_path(tmp_path, hours_are_short),
    )
    assert (done.status, "hours on this machine" in done.stderr) == (0, True), done
