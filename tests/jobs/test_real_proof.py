"""A proof by a real process, which finds nearly all of its chunks done already."""

import base64
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.in_process import in_process
from tests.retraining import ADMIN, TOKEN
from training.errors import ProofStoppedError
from training.proof.answers import load_table, table_path
from training.proof.check import Findings
from training.proof.queries import CHUNK_SIZE, Plan
from training.proof.run import ChunkFindings, prove
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights

QUERIES = ["MeM", "a", "zzZZz", "Menny"]


def leave_chunks(weights: Weights, staging: Path, *, but: int) -> None:
    """Chunks that are done but for the last ones, as a proof that was stopped leaves them."""
    with pytest.raises(ProofStoppedError):
        prove(weights, Plan(), cache=staging, should_stop=lambda: True)
    (file,) = staging.glob("*/chunks.jsonl")
    codes = load_table(table_path(SHIPPED_WEIGHTS), weights.sha256).codes
    work = Plan().workload()
    anagrams = work.anagrams
    card = load_weights(SHIPPED_WEIGHTS).card
    assert card is not None
    proof = card.proof
    assert proof is not None
    with file.open("a") as lines:
        for chunk in range(work.num_chunks - but):
            rows = slice(chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE)
            found = {
                "multisets": len(anagrams[rows]),
                "queries": int(anagrams[rows].sum()),
                "letters": int(anagrams[rows].sum()),
            }
            item = ChunkFindings(
                chunk=chunk,
                findings=Findings.model_validate(proof.model_dump() | found),
                codes=base64.b64encode(codes[rows].tobytes()).decode(),
            )
            lines.write(item.model_dump_json() + "\n")


@pytest.mark.slow  # every multiset is listed twice: 22 s on a busy machine
def test_while_a_real_process_finishes_a_proof_no_request_fails_and_no_answer_changes(
    tmp_path: Path,
) -> None:
    weights = Path(shutil.copy(SHIPPED_WEIGHTS, tmp_path / "menny.npz"))
    checked = load_weights(weights)
    state = tmp_path / "state"
    leave_chunks(checked, state / "staging", but=2)
    whole = load_table(table_path(SHIPPED_WEIGHTS), checked.sha256)
    expected = whole.answers(QUERIES)
    with in_process(weights=weights, state_dir=state, admin_token=TOKEN, prove="auto") as menny:
        deadline = time.monotonic() + 120
        while (health := menny.client.get("/health").json())["answers"] != "table":
            assert health["answers"] == "model", health
            assert [menny.transform(query)["response"] for query in QUERIES] == expected
            assert time.monotonic() < deadline
        assert [menny.transform(query)["response"] for query in QUERIES] == expected
        assert menny.client.get("/health").json()["proven"]
        assert menny.client.get("/card").json()["proof"]["queries"] == 387_659_012
        events = menny.client.get("/models/shipped/events", headers=ADMIN)
        assert events.text.startswith("event: end\n")
        again = menny.client.post("/models/shipped/prove", headers=ADMIN)
        assert (again.status_code, again.json()["proving"]) == (202, {"progress": 0, "fault": None})
        another = menny.client.post("/models/shipped/prove", headers=ADMIN)
        assert another.status_code == 409
    made = load_table(state / "answers" / f"{checked.sha256}.npz", checked.sha256)
    np.testing.assert_array_equal(made.codes, whole.codes)
