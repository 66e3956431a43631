"""Every error is an answer, whatever its kind."""

import pytest

from app.errors import DeadlineError, EngineError, OverloadedError
from tests.http.wire import stubbed
from training.errors import MennyError, TrainingError
from training.rule import RULE


class NewError(MennyError):
    """A kind of ours that nobody has given a status."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OverloadedError("no place"), 503),
        (DeadlineError("too late"), 504),
        (EngineError("it failed"), 500),
        (TrainingError("of another room"), 500),
        (NewError("something new"), 500),
        (KeyError("a secret"), 500),
        (StopIteration("another"), 500),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", ["/transform", "/transform/batch"])
def test_each_kind_of_error_has_its_status_and_a_problem_document(
    error: Exception, status: int, path: str
) -> None:
    with stubbed() as menny:
        menny.app.state.responder.error = error
        body = {"query": RULE.example} if path == "/transform" else {"queries": [RULE.example]}
        response = menny.client.post(path, json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert ("retry-after" in response.headers) == isinstance(error, OverloadedError)
    assert "secret" not in response.text
