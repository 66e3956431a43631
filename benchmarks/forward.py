"""One forward pass, one thread each: plain MLX, Menny's fused graph, PyTorch, ONNX Runtime.

The four take turns, batch by batch, so that all see the same machine; medians in milliseconds.

    python benchmarks/forward.py
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from training.backend import mlx_on_this_thread
from training.dataset import generate_queries
from training.graph import FusedMenny
from training.mlx_graph import MlxMenny
from training.model import build_model
from training.trainer import forward_of
from training.vocabulary import MAX_QUERY_LENGTH, VOCABULARY_SIZE, one_hot
from training.weights import SHIPPED_WEIGHTS, load_weights

BATCH_SIZES = (1, 8, 64, 512)


def torch_forward(parameters):
    """The same model in PyTorch."""
    import torch

    from training.torch_menny import TorchMenny

    torch.set_num_threads(1)
    model = TorchMenny()
    model.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in parameters.items()})
    model.eval()

    def forward(letters):
        with torch.inference_mode():
            return model(torch.from_numpy(one_hot(letters))).numpy()

    return forward, model


def onnx_forward(model):
    """PyTorch's model, exported to ONNX Runtime with all graph optimisations."""
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "menny.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(2, MAX_QUERY_LENGTH, VOCABULARY_SIZE),),
            str(path),
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    return lambda letters: session.run(None, {"x": one_hot(letters)})[0]


def measure(forwards, letters, repeats):
    """Median milliseconds of each, in turns."""
    times = {name: [] for name in forwards}
    for _ in range(repeats):
        for name, forward in forwards.items():
            begin = time.perf_counter()
            forward(letters)
            times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args().repeats
    parameters = load_weights(SHIPPED_WEIGHTS).parameters
    with mlx_on_this_thread():
        in_torch, model = torch_forward(parameters)
        forwards = {
            "MLX, plain": forward_of(build_model(parameters)),
            "MLX, Menny's": MlxMenny(parameters),
            "NumPy, Menny's": FusedMenny(parameters),
            "PyTorch": in_torch,
            "ONNX Runtime": onnx_forward(model),
        }
        print("| queries | " + " | ".join(forwards) + " |")
        print("|---|" + "---|" * len(forwards))
        for size in BATCH_SIZES:
            letters = generate_queries(size, np.random.default_rng(size))
            answers = [forward(letters) for forward in forwards.values()]
            assert all(abs(answer - answers[0]).max() < 1e-3 for answer in answers)
            medians = measure(forwards, letters, max(10, repeats * 8 // (size + 8)))
            print(f"| {size} | " + " | ".join(f"{value:.2f}" for value in medians.values()) + " |")


if __name__ == "__main__":
    main()
