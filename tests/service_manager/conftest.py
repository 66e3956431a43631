"""The machines that the tests of `menny service` are on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service_manager.machine import Machine, machine


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Machine]:
    with machine("darwin", tmp_path) as made:
        yield made


@pytest.fixture
def linux(tmp_path: Path) -> Iterator[Machine]:
    with machine("linux", tmp_path) as made:
        yield made


@pytest.fixture(params=["darwin", "linux"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(request.param, tmp_path) as made:
        yield made
