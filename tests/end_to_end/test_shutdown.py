import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.service import running_service


def stop_in_the_middle_of_work(signum: int, time_limit_s: float) -> None:
    """Start a service, keep it busy, send the signal; everything accepted must be answered."""
    with running_service() as service:
        service.transform("MeM")
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(service.transform, "aBcDe") for _ in range(8)]
            begin = time.monotonic()
            status = service.stop_while_busy(signum)
            seconds = time.monotonic() - begin
            for answer in answers:
                with suppress(httpx.ConnectError):  # came too late to be accepted
                    answer.result(timeout=60)
        assert status == 0, service.log
        assert seconds < time_limit_s
        assert "Traceback" not in service.log
        assert "terminate called" not in service.log


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_work_answers_what_was_accepted(signum: int) -> None:
    stop_in_the_middle_of_work(signum, time_limit_s=60)


def test_connections_that_clients_leave_open_hold_up_no_stop() -> None:
    with running_service(MENNY_SHUTDOWN_TIMEOUT_S="300") as service:
        service.transform("MeM")  # and the connection stays open
        assert service.stop_while_busy(signal.SIGTERM, timeout=60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_30_stops_are_clean_and_within_5_seconds(signum: int) -> None:
    for _ in range(15):
        stop_in_the_middle_of_work(signum, time_limit_s=5)
