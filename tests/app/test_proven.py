import shutil
from pathlib import Path

from tests.in_process import in_process
from tests.retraining import ADMIN, TOKEN
from tests.training.test_proof import proof_of
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
