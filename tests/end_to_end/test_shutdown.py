import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.service import running_service


def stopped_in_the_middle_of_work(signum: int) -> None:
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
                    answer.result(timeout=10)
        assert status == 0, service.log
        assert seconds < 5
        assert "Traceback" not in service.log
        assert "terminate called" not in service.log


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_30_stops_are_clean_and_within_5_seconds(signum: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(stopped_in_the_middle_of_work, [signum] * 15))
