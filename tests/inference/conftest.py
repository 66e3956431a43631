import pytest

from app.inference.model import ServedModel
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights


@pytest.fixture(scope="session")
def weights() -> Weights:
    return load_weights(SHIPPED_WEIGHTS)


@pytest.fixture(scope="session")
def model(weights: Weights) -> ServedModel:
    return ServedModel(weights, max_batch=64)
