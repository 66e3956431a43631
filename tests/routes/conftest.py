import pytest

from tests.in_process import InProcess


@pytest.fixture(scope="session")
def menny(asked_in_process: InProcess) -> InProcess:
    """The application with the shipped weights, for tests that only ask."""
    return asked_in_process
