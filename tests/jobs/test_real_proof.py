"""A proof by a real process, which finds nearly all of its chunks done already."""

import base64
import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.in_process import in_process
from tests.retraining import (
    ADMIN,
    TOKEN,
    admin_of,
    assert_no_child_is_left,
    children_of,
    retrainable_service,
)
from tests.service import Service
from tests.waiting import eventually
from training.errors import ProofStoppedError
from training.proof.answers import load_table, table_path
from training.proof.check import Findings
from training.proof.queries import CHUNK_SIZE, Plan
from training.proof.run import ChunkFindings, prove
from training.vocabulary import ALPHABET
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights, save_weights

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


def asked_anew(service: Service) -> dict[str, object]:
    """`/health` on a connection of its own: on a busy machine an idle one may just be closed."""
    assert service.process.poll() is None, service.log
    return httpx.get(f"{service.url}/health", timeout=60, trust_env=False).json()


@pytest.mark.slow  # a service that starts twice, and a process that lists every multiset thrice
def test_a_proof_whose_service_and_whose_process_are_killed_is_finished_all_the_same(
    tmp_path: Path,
) -> None:
    weights = Path(shutil.copy(SHIPPED_WEIGHTS, tmp_path / "menny.npz"))
    checked = load_weights(weights)
    state = tmp_path / "state"
    leave_chunks(checked, state / "staging", but=12)
    (chunks,) = (state / "staging").glob("*/chunks.jsonl")
    before = chunks.read_bytes().count(b"\n")
    expected = load_table(table_path(SHIPPED_WEIGHTS), checked.sha256).answers(QUERIES)
    options = {"MENNY_WEIGHTS": str(weights), "MENNY_PROVE": "auto"}

    with retrainable_service(state, **options) as service:
        eventually(lambda: chunks.read_bytes().count(b"\n") > before + 1)
        service.process.kill()
        service.process.wait()
    assert_no_child_is_left(state)
    done = chunks.read_bytes().count(b"\n")

    with retrainable_service(state, **options) as service, admin_of(service) as admin:
        eventually(lambda: chunks.read_bytes().count(b"\n") > done + 1)
        (child,) = children_of(state)
        os.kill(child, signal.SIGKILL)
        eventually(lambda: (admin.get("/models/shipped").json()["proving"] or {}).get("fault"))
        proving = admin.get("/models/shipped").json()["proving"]
        assert "was killed (SIGKILL)" in proving["fault"]
        health = admin.get("/health")
        assert (health.status_code, health.json()["answers"]) == (200, "model")
        assert [service.transform(query)["response"] for query in QUERIES] == expected
        assert admin.post("/models/shipped/prove").status_code == 202
        eventually(lambda: asked_anew(service)["answers"] == "table")
        assert asked_anew(service)["proven"]
        assert [service.transform(query)["response"] for query in QUERIES] == expected
    assert list((state / "staging").iterdir()) == []


@pytest.mark.slow  # a real process lists every multiset and asks 4,096 of them
def test_weights_that_break_the_rule_are_refuted_with_a_query_and_go_on_answering(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = load_weights(SHIPPED_WEIGHTS)
    bias = shipped.parameters["fc.bias"].copy()
    bias[ALPHABET.index("x")] += 20  # above every vowel in some queries
    assert shipped.card is not None
    weights = tmp_path / "menny.npz"
    parameters = dict(shipped.parameters) | {"fc.bias": bias}
    version = save_weights(weights, parameters, shipped.card).sha256[:12]
    with in_process(
        weights=weights, state_dir=tmp_path / "state", admin_token=TOKEN, prove="auto"
    ) as menny:
        asked = menny.client.get
        eventually(lambda: asked("/health").json()["counter_example"])
        health = asked("/health").json()
        query, response = (health["counter_example"][name] for name in ("query", "response"))
        assert (health["status"], health["proven"]) == ("ok", False)
        assert (health["model_version"], health["answers"]) == (version, "model")
        assert "x" in response
        assert menny.transform(query) == {
            "query": query,
            "response": response,
            "model_version": version,
        }
        eventually(lambda: asked("/models/shipped", headers=ADMIN).json()["proving"] is None)
        found = asked("/models/shipped", headers=ADMIN).json()
        assert (found["active"], found["proven"]) == (True, False)
        assert found["proof"]["violations"] > 0
        assert f'"query":"{query}"' in asked("/models/shipped/events", headers=ADMIN).text
        assert 'menny_proofs_total{verdict="refuted"} 1.0' in asked("/metrics").text
    assert "does not keep the rule" in caplog.text
    assert repr(query) in caplog.text
    assert not list((tmp_path / "state").glob("answers/*"))
