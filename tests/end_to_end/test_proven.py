import shutil
from pathlib import Path

from tests.service import running_service
from tests.training.test_proof import proof_of
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights, record_proof


def test_health_says_proven_only_where_the_card_has_a_proof_of_these_weights(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "menny.npz"
    shutil.copy(SHIPPED_WEIGHTS, weights)
    sha256 = load_weights(weights).sha256
    with running_service("--weights", str(weights)) as service:
        assert service.client.get("/health").json()["proven"] is False

    shutil.copy(card_path(SHIPPED_WEIGHTS), card_path(weights))
    card = record_proof(weights, proof_of(sha256))
    with running_service("--weights", str(weights)) as service:
        assert service.client.get("/health").json()["proven"] is True

    forged = card.model_copy(update={"proof": proof_of("f" * 64)})
    card_path(weights).write_text(forged.model_dump_json())
    with running_service("--weights", str(weights)) as service:
        assert service.client.get("/health").json()["proven"] is False
