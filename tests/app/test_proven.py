import shutil
from pathlib import Path

from app.jobs.database import Database
from app.jobs.verdicts import Verdicts
from tests.in_process import in_process
from tests.retraining import ADMIN, TOKEN
from tests.training.test_proof import proof_of
from training.proof.check import CounterExample
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights, record_proof


def who_calls_it_proven(weights: Path) -> list[bool]:
    """What /health, /card and /models say of the weights that are served."""
    with in_process(weights=weights, admin_token=TOKEN) as menny:
        paths = ("/health", "/card", "/models/shipped")
        return [menny.client.get(path, headers=ADMIN).json()["proven"] for path in paths]


def test_proven_is_what_has_a_card_with_a_proof_of_these_weights_and_all_say_so_alike(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "menny.npz"
    shutil.copy(SHIPPED_WEIGHTS, weights)
    assert who_calls_it_proven(weights) == [False, False, False]

    shutil.copy(card_path(SHIPPED_WEIGHTS), card_path(weights))
    card = record_proof(weights, proof_of(load_weights(weights).sha256))
    assert who_calls_it_proven(weights) == [True, True, True]

    forged = card.model_copy(update={"proof": proof_of("f" * 64)})
    card_path(weights).write_text(forged.model_dump_json())
    assert who_calls_it_proven(weights) == [False, False, False]


def test_what_a_proof_in_the_background_has_refuted_is_said_with_its_query_and_goes_on_answering(
    tmp_path: Path,
) -> None:
    weights = Path(shutil.copy(SHIPPED_WEIGHTS, tmp_path / "menny.npz"))
    checked = load_weights(weights)
    example = CounterExample(query="MeM", response="uxu", margin=-0.5)
    refuted = proof_of(checked.sha256).model_copy(
        update={"violations": 6, "counter_examples": [example]}
    )
    database = Database(tmp_path / "menny.sqlite3")
    Verdicts(database).keep(refuted)
    database.close()
    with in_process(weights=weights, state_dir=tmp_path, admin_token=TOKEN) as menny:
        health, card = (menny.client.get(path).json() for path in ("/health", "/card"))
        for said in (health, card):
            assert (said["proven"], said["model_version"]) == (False, checked.version)
            assert said["counter_example"] == example.model_dump()
        assert health["status"] == "ok"
        assert menny.transform("MeM")["model_version"] == checked.version
        found = menny.client.get("/models/shipped", headers=ADMIN).json()
        assert (found["active"], found["proof"]["violations"]) == (True, 6)
