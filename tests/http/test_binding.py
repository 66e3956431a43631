# ruff: noqa: S104 - nothing is meant to be reached from elsewhere
"""Where the service listens, and that nobody opens it to others without choosing a token."""

import socket

import pytest

from app.addresses import is_taken
from tests.cli.command import menny
from tests.http.test_hosts import ask, assert_refused
from tests.retraining import TOKEN
from tests.service import Service, running_service


def test_it_listens_on_loopback_unless_told_otherwise(service: Service) -> None:
    assert service.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "menny.example.org", ""])
def test_listening_elsewhere_without_a_token_of_ones_own_is_refused_in_one_sentence(
    host: str,
) -> None:
    assert_refused_at_start(menny("serve", "--port", "0", "--host", host), host)


def test_so_it_is_when_a_variable_says_so() -> None:
    assert_refused_at_start(menny("serve", MENNY_HOST="0.0.0.0"), "0.0.0.0")


def assert_refused_at_start(result, host: str) -> None:
    assert result.status == 2
    (sentence,) = result.stderr.strip().splitlines()
    assert sentence.startswith(f"error: {host or 'an empty host'} can be reached from other")
    assert "MENNY_ADMIN_TOKEN" in sentence


def _has_another_loopback_address() -> bool:
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(
    not _has_another_loopback_address(), reason="loopback has 127.0.0.1 alone, as on a Mac"
)
def test_loopback_by_another_address_needs_no_token() -> None:
    with running_service("--host", "127.0.0.2") as service:
        assert service.client.get("/health/live").status_code == 200


def test_with_a_token_it_listens_everywhere_and_still_goes_by_its_own_names_alone() -> None:
    with running_service("--host", "0.0.0.0", MENNY_ADMIN_TOKEN=TOKEN) as service:
        service.url = service.url.replace("0.0.0.0", "127.0.0.1")
        assert ask(service, "localhost").status == 200
        assert_refused(ask(service, "0.0.0.0"), 421)
        assert_refused(ask(service, "menny.example.org"), 421)


def test_the_address_it_was_told_to_listen_on_is_one_of_its_names() -> None:
    own = _address_of_this_machine()
    with running_service("--host", own, MENNY_ADMIN_TOKEN=TOKEN) as service:
        assert ask(service, own).status == 200
        assert_refused(ask(service, "192.0.2.1"), 421)


def _address_of_this_machine() -> str:
    """One that is not loopback's; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        address: str = probe.getsockname()[0]
    return address


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_is_taken_if_somebody_answers_there_or_beside_it(host: str, other: str) -> None:
    with socket.create_server((other, 0)) as listener:
        port = listener.getsockname()[1]
        assert is_taken(host, port)
    assert not is_taken(host, port)
