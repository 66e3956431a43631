from collections.abc import Iterator

import pytest

from tests.service import Service, running_service
from training.backend import mlx_on_this_thread


@pytest.fixture(scope="session", autouse=True)
def _clear_mlx_streams() -> Iterator[None]:
    with mlx_on_this_thread():
        yield


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service with the shipped weights, shared by the tests that only ask it things."""
    with running_service() as running:
        yield running
