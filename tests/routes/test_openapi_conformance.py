"""The whole OpenAPI document against a running service: every check that schemathesis has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.retraining import TOKEN, admin_of, retrainable_service
from tests.service import Service, clean_environment

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")


def run_schemathesis(url: str, folder: Path, *options: str) -> str:
    """Its report; fails unless it has found nothing."""
    done = subprocess.run(
        [SCHEMATHESIS, "--config-file", CONFIG, "run", f"{url}/openapi.json", "--checks", "all"]
        # DELETE /train/{job_id} cancels a job, which is still there to be looked at; that a deleted
        # version is gone is tested with the rest of retraining.
        + ["--exclude-checks", "use_after_free", "--request-timeout", "60"]
        + ["--mode", "all", "--generation-deterministic", "--continue-on-failure", "--no-color"]
        + ["--warnings", "off", "--workers", "1", "--max-time", "240", *options],
        env=clean_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


# A job is stopped after a second: what is asked for is whether answers are as documented.
QUICK = {"MENNY_TRAINING_TIMEOUT_S": "1"}
ADMINS_PATHS = ("--include-path-regex", "^/(train|models)")
TOKENED = ("--header", f"Authorization: Bearer {TOKEN}")


def test_every_example_is_answered_as_documented_and_without_the_token_nothing_happens(
    tmp_path: Path,
) -> None:
    with retrainable_service(tmp_path / "state", **QUICK) as service:
        run_schemathesis(service.url, tmp_path, "--phases", "examples", *ADMINS_PATHS)
        assert jobs_of(service) == []
        report = run_schemathesis(service.url, tmp_path, "--phases", "examples", *TOKENED)
        assert re.search(r"Operations:\s+32 selected", report)
        assert jobs_of(service), "it has started no job"
        assert "Traceback" not in service.log


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_makes_it_fail_however_it_is_put_together(tmp_path: Path) -> None:
    with retrainable_service(tmp_path / "state", **QUICK) as service:
        run_schemathesis(service.url, tmp_path, "--phases", "coverage", *ADMINS_PATHS)
        assert jobs_of(service) == []
        report = run_schemathesis(service.url, tmp_path, "-n", "5", *TOKENED)
        for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
            assert f"✅ {phase}" in report
        assert jobs_of(service), "it has started no job"
        assert "Traceback" not in service.log


def jobs_of(service: Service) -> list[dict[str, object]]:
    with admin_of(service) as admin:
        return admin.get("/train").json()["jobs"]


@pytest.mark.parametrize("path", ["/train", "/train/1", "/models/shipped", "/transform", "/health"])
def test_the_methods_that_405_names_are_those_of_the_document(service: Service, path: str) -> None:
    document = service.client.get("/openapi.json").json()["paths"]
    template = path.replace("/1", "/{job_id}").replace("shipped", "{version}")
    response = service.client.request("PATCH", path)
    assert response.status_code == 405
    allowed = response.headers["allow"]
    assert allowed == ", ".join(sorted(method.upper() for method in document[template]))
    assert f"use {allowed}" in response.json()["detail"]
