"""Dockerfile.notes: its steps are carried out, and the result is run as `docker run` would."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.container import Stage, build, enter, first_process, reason_not_to, running

ROOT = Path(__file__).parent.parent
ASK = """
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000/transform", sys.argv[1].encode(),
                                 {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(reason_not_to() is not None, reason=str(reason_not_to()))
def test_the_image_is_built_serves_from_a_read_only_root_and_stops_at_sigterm(
    tmp_path: Path,
) -> None:
    stage = build(ROOT / "Dockerfile.notes", ROOT, tmp_path)
    assert stage.user == "10001:10001"
    assert stage.volumes == ["/state"]
    tmp_path.chmod(0o755)
    stage.environment |= {"MENNY_ADMIN_TOKEN": "chosen by its owner"}
    python = str(Path(stage.entrypoint[0]).with_name("python"))
    with running(stage, [*stage.entrypoint, *stage.command], read_only=True) as process:
        wait_until_healthy(stage, process)
        inside = first_process(process)
        status = Path(f"/proc/{inside}/status").read_text()
        assert "\nNSpid:\t" in status
        assert status.split("\nNSpid:")[1].split("\n")[0].split()[-1] == "1"
        assert "\nUid:\t10001\t10001" in status
        assert "\nCapEff:\t0000000000000000" in status

        answer = enter(stage, process, [python, "-c", ASK, '{"query": "MeM"}'])
        response = json.loads(answer.stdout)["response"]
        assert re.fullmatch("[aeiou][AEIOU][aeiou]", response), answer.stderr
        for path in ("/menny/x", "/tmp/x", "/etc/x", "/x"):  # noqa: S108
            assert enter(stage, process, ["touch", path]).returncode != 0, path
        assert enter(stage, process, ["touch", "/state/x"]).returncode == 0

        os.kill(inside, signal.SIGTERM)
        log, _ = process.communicate(timeout=10)  # after which Docker kills
    assert process.returncode == 0, log
    assert all(json.loads(line) for line in log.splitlines())
    assert any("listening on http://0.0.0.0:8000" in line for line in log.splitlines())
    assert "Traceback" not in log


def wait_until_healthy(stage: Stage, process) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if enter(stage, process, stage.healthcheck).returncode == 0:
            return
        time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate()[0])
