"""What Menny is compared with: `python benchmarks/servers.py raw|ceiling|naive PORT`.

All give the same JSON as Menny's `POST /transform`. Those on FastAPI use the same Pydantic schemas,
and compute (if they do) with the same OpenBLAS on one thread.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.inference.model import Answer
from app.routes.schemas import TransformRequest, TransformResponse, transform_response
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS, load_weights

_ANSWER = {"query": RULE.example, "response": RULE.example_response, "model_version": "0" * 12}
BODY = json.dumps(_ANSWER, separators=(",", ":")).encode()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))],
}
END = {"type": "http.response.body", "body": BODY}


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: reads a body and sends a constant answer."""
    while (await receive()).get("more_body"):
        pass
    await send(START | {"headers": [*START["headers"]]})
    await send(END)


def raw(port: int) -> None:
    """The limit of the wire: uvicorn with a bare ASGI function."""
    uvicorn.run(
        bare, port=port, log_level="critical", access_log=False, proxy_headers=False, lifespan="off"
    )


def ceiling(port: int) -> None:
    """The most that FastAPI can do: a constant answer."""
    app = FastAPI()
    answer = Answer("uIu", "0123456789ab")

    @app.post("/transform", response_model_exclude_none=True)
    async def transform(body: TransformRequest) -> TransformResponse:
        return transform_response(body.query, answer)

    _serve(app, port)


def naive(port: int) -> None:
    """FastAPI with one forward pass of the plain model for every request."""
    from training.backend import mx
    from training.model import build_model
    from training.trainer import forward_of
    from training.vocabulary import decode, encode_batch

    app = FastAPI()
    thread = ThreadPoolExecutor(1)  # MLX wants to be used from one thread
    weights = load_weights(SHIPPED_WEIGHTS)
    forward = thread.submit(lambda: forward_of(build_model(weights.parameters))).result()

    def respond(query: str) -> Answer:
        best = forward(encode_batch([query]))[0, : len(query)].argmax(axis=-1)
        return Answer(decode(best.tolist()), weights.version)

    @app.post("/transform", response_model_exclude_none=True)
    async def transform(body: TransformRequest) -> TransformResponse:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(thread, respond, body.query)
        return transform_response(body.query, answer)

    _serve(app, port)
    thread.submit(mx.clear_streams).result()


def _serve(app: FastAPI, port: int) -> None:
    uvicorn.run(app, port=port, log_level="critical", access_log=False, proxy_headers=False)


if __name__ == "__main__":
    {"raw": raw, "ceiling": ceiling, "naive": naive}[sys.argv[1]](int(sys.argv[2]))
