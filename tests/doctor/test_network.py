import socket

import pytest

from app.doctor.finding import Status
from app.doctor.network import addresses_of_localhost, can_listen, check_localhost, check_port
from app.service.probe import Answer, listener_of

URL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (None, Status.OK, "is free"),
        (Answer(True, True, "ok, model 0123456789ab"), Status.OK, "Menny answers"),
        (Answer(True, False, "unavailable: no weights"), Status.WARN, "no weights"),
        (Answer(False, False, "HTTP status 404"), Status.FAIL, "something else"),
    ],
)
def test_a_port_is_free_or_it_is_said_who_has_it(
    answer: Answer | None, status: Status, words: str
) -> None:
    finding = check_port(URL, answer, ", nginx, process 7")
    assert (finding.status, words in finding.says) == (status, True)
    assert ("nginx" in finding.says) == (status is Status.FAIL)


def test_who_listens_is_known_where_lsof_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = listener_of(listener.getsockname()[1])
    assert said == "" or "process" in said


@pytest.mark.parametrize(
    ("addresses", "has_ipv6", "status"),
    [
        ({"127.0.0.1"}, False, Status.OK),
        ({"127.0.0.1", "::1"}, True, Status.OK),
        ({"127.0.0.1", "::1"}, False, Status.WARN),
        ({"192.0.2.7"}, True, Status.FAIL),
        (set(), True, Status.FAIL),
    ],
)
def test_localhost_is_this_machine(addresses: set[str], has_ipv6: bool, status: Status) -> None:
    assert check_localhost(addresses, has_ipv6).status is status


def test_what_localhost_is_here_can_be_asked() -> None:
    assert "127.0.0.1" in addresses_of_localhost()
    assert can_listen("2001:db8::1") is False  # an address for documentation
