"""LitServe with Menny's own model: `python benchmarks/litserve_server.py PORT`."""

import sys

import litserve as ls

from app.inference.decoding import Prompt
from app.inference.model import Answer, ServedModel
from app.routes.schemas import TransformRequest, transform_response
from training.weights import SHIPPED_WEIGHTS, load_weights

MAX_BATCH = 64


class MennyApi(ls.LitAPI):
    """The model in LitServe's terms; its methods but the first run in a worker process."""

    def setup(self, device: str) -> None:
        self.model = ServedModel(load_weights(SHIPPED_WEIGHTS), MAX_BATCH)

    def decode_request(self, request: dict[str, str]) -> str:
        return TransformRequest.model_validate(request).query

    def predict(self, queries: list[str]) -> list[tuple[str, Answer]]:
        answers = self.model.answer([Prompt(query) for query in queries])
        return list(zip(queries, answers, strict=True))

    def encode_response(self, output: tuple[str, Answer]) -> dict[str, str]:
        query, answer = output
        return transform_response(query, answer)


if __name__ == "__main__":
    api = MennyApi(max_batch_size=MAX_BATCH, batch_timeout=0.002, api_path="/transform")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
