from collections.abc import Iterator

import pytest

from app.admin_token import AdminGuard
from tests.http.wire import Wire, serving, stubbed
from tests.in_process import InProcess
from tests.retraining import TOKEN


@pytest.fixture(scope="session")
def wire() -> Iterator[Wire]:
    """The wire with the settings that it has by itself, for tests that only ask."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def menny() -> Iterator[InProcess]:
    """The application without socket and model, for tests that only ask."""
    with stubbed() as running:
        running.app.state.admin = AdminGuard(TOKEN)
        yield running
