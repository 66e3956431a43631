import gc

from tests.http.wire import serving


def test_a_server_that_answers_collects_garbage_though_its_start_did_not() -> None:
    gc.disable()
    try:
        with serving() as wire:
            assert wire.client.get("/health/live").status_code == 200
            assert gc.isenabled()
    finally:
        gc.enable()
