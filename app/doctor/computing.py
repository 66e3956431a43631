"""The checks that compute, with MLX and the weights that are to serve."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np

from app.doctor import model
from app.doctor.finding import Finding, Status, fail, ok
from app.settings import Settings
from training.backend import BLAS, mx
from training.commands.table import ask_again, check_table_of
from training.config import Recipe, recipe_config
from training.dataset import generate_queries
from training.errors import MennyError
from training.mlx_graph import MlxMenny
from training.model import build_model
from training.trainer import forward_of, train
from training.vocabulary import Letters
from training.weights import load_weights

NUM_QUERIES = 10_000


def answers(settings: Settings) -> Finding:
    """Of the answer table, every code of it, and against the model on random queries."""
    finding = model.check_answers(settings.weights)
    if finding.status is not Status.OK:
        return finding
    weights = load_weights(settings.weights)
    try:
        check_table_of(settings.weights, weights)
        return ok(ask_again(settings.weights, weights, NUM_QUERIES))
    except MennyError as error:
        return fail(str(error), "menny verify")


def precision(_: Settings) -> Finding:
    """Of MLX's products on its default device."""
    return model.check_precision(lambda left, right: np.array(mx.array(left) @ mx.array(right)))


def blas(_: Settings) -> Finding:
    """Of the one that `training.backend` brought in."""
    return model.check_blas(BLAS.name, BLAS.reason)


def graph(settings: Settings) -> Finding:
    """Of the fused graph, which serves, against the plain model."""
    parameters = load_weights(settings.weights).parameters
    fused, plain = MlxMenny(parameters), forward_of(build_model(parameters))
    return model.check_agreement("the fused graph and the plain model", fused, plain, _queries())


def devices(settings: Settings) -> Finding:
    """Of the GPU against the CPU, where there is a GPU."""
    info = mx.device_info()
    memory = f", {int(info['memory_size']) / 2**30:.0f} GiB" if "memory_size" in info else ""
    here = f"MLX {version('mlx')} on {info.get('device_name', 'a CPU')}{memory}"
    if not _has_gpu():
        return ok(f"{here}; there is no GPU that it could use")
    on_gpu, on_cpu = _forward_on("gpu", settings), _forward_on("cpu", settings)
    return model.check_agreement(f"{here}: GPU and CPU", on_gpu, on_cpu, _queries())


def rounding(settings: Settings) -> Finding:
    """Of the fused graph, alone and in batches."""
    return model.check_spread(MlxMenny(load_weights(settings.weights).parameters), _queries())


def training(_: Settings) -> Finding:
    """Of two small runs with the default recipe's seed."""
    config = recipe_config(
        Recipe.DEFAULT, num_samples=512, num_epochs=2, batch_size=64, warm_up_steps=2
    )
    return model.check_training(lambda: train(config, num_fresh_queries=100).parameters)


def speed(settings: Settings) -> Finding:
    """Of each device that there is."""
    seconds = {}
    for device in ("gpu", "cpu") if _has_gpu() else ("cpu",):
        forward = _forward_on(device, settings)
        one, many = (model.median_seconds(forward, _queries(count)) for count in (1, 64))
        seconds[device] = (one, many)
    default = str(mx.default_device().type).removeprefix("DeviceType.")
    return model.check_speed(seconds, default if settings.device == "auto" else settings.device)


def _queries(count: int | None = None) -> Letters:
    return generate_queries(count or NUM_QUERIES, np.random.default_rng(0))


def _has_gpu() -> bool:
    return bool(mx.device_count(mx.gpu))


def _forward_on(name: str, settings: Settings) -> model.Forward:
    """The fused graph, built for and run on a device, whatever the default one is."""
    with _default_device(name):
        fused = MlxMenny(load_weights(settings.weights).parameters)

    def forward(letters: Letters) -> model.Logits:
        with _default_device(name):
            return fused(letters)

    return forward


@contextmanager
def _default_device(name: str) -> Iterator[None]:
    before = mx.default_device()
    mx.set_default_device(mx.Device(mx.gpu if name == "gpu" else mx.cpu))
    try:
        yield
    finally:
        mx.set_default_device(before)
