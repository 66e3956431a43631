from collections.abc import Iterator

import pytest

from app.inference.model import ServedModel
from tests.in_process import InProcess, in_process
from training.weights import SHIPPED_WEIGHTS, Weights, load_weights


@pytest.fixture(scope="session")
def weights() -> Weights:
    return load_weights(SHIPPED_WEIGHTS)


@pytest.fixture(scope="session")
def model(weights: Weights) -> ServedModel:
    return ServedModel(weights, max_batch=64)


@pytest.fixture(scope="session")
def menny(asked_in_process: InProcess) -> InProcess:
    """The application with the shipped weights, for tests that only ask."""
    return asked_in_process


@pytest.fixture(scope="session")
def asked_of_the_model() -> Iterator[InProcess]:
    """The same, which asks the model whatever the table has."""
    with in_process(answers="model") as running:
        yield running
