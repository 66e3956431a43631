"""What app/http/connection.py, unqueued.py and wire.py rely on in uvicorn, which promises none."""

import hashlib
import inspect

from uvicorn.protocols.http import flow_control, httptools_impl


def test_uvicorn_s_protocol_is_the_one_that_was_read() -> None:
    source = inspect.getsource(httptools_impl) + inspect.getsource(flow_control)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    assert digest == "ea814cf42e50628d", (
        "uvicorn's HTTP protocol is not the one that app/http/connection.py and unqueued.py were "
        "written against: read what has changed in its parser callbacks, `STATUS_LINE`, `cycle`, "
        "`pipeline`, `flow`, `_start_asgi_task` and `on_response_complete`, run tests/http, then "
        "put this version's "
        f"digest here ({digest}) and its number into pyproject.toml"
    )
