"""`python -m fuzz.requests [CORPUS] [-max_total_time=60]`: arbitrary bytes as a request's body.

They go through the whole application, from ASGI over JSON, the schema, decoding and back, without
a network, a thread or MLX: the logits are a NumPy function. Every answer must be a right one or a
problem document, and which of the two is checked against a reader of its own.
"""

import asyncio
import json
import re
import sys

import atheris

with atheris.instrument_imports(include=["app"]):
    from app.http.problems import Problem
    from app.inference.decoding import Prompt
    from app.inference.model import Answer, ServedModel
    from app.main import create_app
    from app.routes.schemas import BatchResponse, TransformResponse

import numpy as np
from pydantic import TypeAdapter

from fuzz.seeds import PATHS, TYPES
from training.dataset import IS_ALLOWED
from training.settling import Settler
from training.vocabulary import Letters, encode

app = create_app()
loop = asyncio.new_event_loop()


class NothingToSettle(Settler):
    """For a forward pass without rounding."""

    def __init__(self) -> None:
        self.doubtful_margin = 0.0

    def canonical_logits(self, letters: Letters) -> np.ndarray:
        """Letters (B, L) to logits (B, L, V)."""
        return IS_ALLOWED[letters] * 9.0


class StandIn(ServedModel):
    """Keeps the rule, exactly."""

    def __init__(self) -> None:
        self.max_batch = 1024
        self._sizes = [1024]
        self._forward = lambda letters: IS_ALLOWED[letters].astype(np.float32) * 9
        self._settler = NothingToSettle()
        self.version = "0123456789ab"

    def logits(self, letters: Letters) -> np.ndarray:
        """Letters (B, L) to logits (B, L, V)."""
        return self._forward(letters)

    def look_up(self, queries: list[str]) -> list[tuple[str, str]]:
        """As the responder does, without a table."""
        return [answer[:2] for answer in self.answer([Prompt(query) for query in queries])]

    async def respond(self, prompts: list[Prompt], _: object) -> list[Answer]:
        """As the responder does."""
        return self.answer(prompts)


app.state.responder = StandIn()


def ask(path: str, content_type: str | None, body: bytes) -> tuple[int, bytes]:
    """Send a request; returns status and body of the answer."""
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    loop.run_until_complete(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def check(path: str, content_type: str | None, body: bytes) -> None:
    """Send a request and check the answer; raises whatever must not happen."""
    status, answer = ask(path, content_type, body)
    if status != 200:
        problem = Problem.model_validate_json(answer)
        assert status == problem.status in {400, 413, 415, 422}, (status, answer)
        assert problem.detail and "Traceback" not in problem.detail, answer
        return
    asked = json.loads(body)
    if path == "/transform":
        pairs = [(asked["query"], TypeAdapter(TransformResponse).validate_json(answer))]
    else:
        answers = TypeAdapter(BatchResponse).validate_json(answer)["answers"]
        pairs = list(zip(asked["queries"], answers, strict=True))
    for query, response in pairs:
        assert re.fullmatch("[A-Za-z]{1,5}", query), query
        assert response["query"] == query
        assert len(response["response"]) == len(query)
        if not asked.get("temperature"):
            assert IS_ALLOWED[encode(query), encode(response["response"])].all()
        assert bool(response.get("candidates")) == bool(asked.get("candidates"))


def main() -> None:
    """Fuzz until a finding, or for as long as libFuzzer's options say."""

    def test_one_input(data: bytes) -> None:
        if data:
            # Three quarters are sent as JSON, for the others never get far.
            other = TYPES[data[0] // 2 % len(TYPES)]
            check(PATHS[data[0] % 2], other if data[0] >= 192 else "application/json", data[1:])

    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
