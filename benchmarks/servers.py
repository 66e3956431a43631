"""What Menny is compared with: `python benchmarks/servers.py ceiling|naive|litserve PORT`.

All take and give the same JSON as Menny's `POST /transform`, with the same Pydantic schemas where
they are FastAPI's own, and compute (if they do) with the same OpenBLAS on one thread.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI

from app.inference.decoding import Prompt
from app.inference.model import Answer, ServedModel
from app.schemas import TransformRequest, TransformResponse
from training.weights import SHIPPED_WEIGHTS, load_weights

MAX_BATCH = 64


def ceiling(port: int) -> None:
    """The most that FastAPI can do: a constant answer."""
    app = FastAPI()
    answer = Answer("uIu", "0123456789ab")

    @app.post("/transform", response_model_exclude_none=True)
    async def transform(body: TransformRequest) -> TransformResponse:
        return TransformResponse.of(body.query, answer)

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
        return TransformResponse.of(body.query, answer)

    _serve(app, port)
    thread.submit(mx.clear_streams).result()


def litserve(port: int) -> None:
    """LitServe, batches of up to 64, with Menny's own forward pass and decoding."""
    import litserve as ls

    class MennyApi(ls.LitAPI):
        def setup(self, device: str) -> None:
            self.model = ServedModel(load_weights(SHIPPED_WEIGHTS), MAX_BATCH)

        def decode_request(self, request: dict[str, str]) -> str:
            return TransformRequest.model_validate(request).query

        def predict(self, queries: list[str]) -> list[tuple[str, Answer]]:
            answers = self.model.answer([Prompt(query) for query in queries])
            return list(zip(queries, answers, strict=True))

        def encode_response(self, output: tuple[str, Answer]) -> dict[str, str]:
            query, answer = output
            return TransformResponse.of(query, answer).model_dump(exclude_none=True)

    api = MennyApi(max_batch_size=MAX_BATCH, batch_timeout=0.002, api_path="/transform")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


def _serve(app: FastAPI, port: int) -> None:
    uvicorn.run(app, port=port, log_level="critical", access_log=False, proxy_headers=False)


if __name__ == "__main__":
    {"ceiling": ceiling, "naive": naive, "litserve": litserve}[sys.argv[1]](int(sys.argv[2]))
