"""`menny doctor` as it is called."""

import json
from pathlib import Path

from app.doctor.examine import all_checks, examine, quick_checks
from app.doctor.finding import Status
from app.settings import Settings
from tests.cli.command import Done, menny

TOKEN = "a-token-of-some-length"  # noqa: S105


def doctor(home: Path, *arguments: str, **variables: str) -> Done:
    state = home / "state"
    state.mkdir(exist_ok=True)
    (state / "admin_token").write_text(f"{TOKEN}\n")
    (state / "admin_token").chmod(0o600)
    return menny("doctor", *arguments, HOME=home, MENNY_STATE_DIR=state, **variables)


def test_a_failure_is_said_with_a_command_that_helps_and_in_the_exit_status(tmp_path: Path) -> None:
    weights = str(tmp_path / "none.npz")
    result = doctor(tmp_path, "--quick", "--json", MENNY_WEIGHTS=weights, MENNY_PORT="1")
    assert result.status == 1, result.stderr
    checks = json.loads(result.stdout)["checks"]
    assert list(checks) == list(quick_checks())
    assert {check["status"] for check in checks.values()} <= {"ok", "warn", "fail"}
    assert checks["weights"]["status"] == "fail"
    assert all((check["status"] == "ok") == (check["remedy"] is None) for check in checks.values())


def test_the_report_names_neither_the_home_folder_nor_a_token(tmp_path: Path) -> None:
    result = doctor(tmp_path, "--quick", "--report", MENNY_LOG_FILE=f"/x/{TOKEN}/menny.log")
    assert result.status == 0, result.stdout + result.stderr
    assert str(tmp_path) not in result.stdout
    assert TOKEN not in result.stdout
    assert "~/state" in result.stdout
    assert "platform: " in result.stdout


def test_every_check_of_the_quick_part_is_in_the_whole() -> None:
    quick, every = quick_checks(), all_checks()
    assert list(every)[: len(quick)] == list(quick)
    assert {"precision", "graph", "rounding", "devices", "training", "speed"} <= every.keys()


def test_a_check_that_breaks_down_has_failed_and_the_others_go_on() -> None:
    def breaks(_: Settings) -> None:
        raise RuntimeError("out of ideas")

    checks = {"broken": breaks, "lock": quick_checks()["lock"]}
    (_, broken), (name, _) = examine(Settings(), checks)
    assert (broken.status, "out of ideas" in broken.says) == (Status.FAIL, True)
    assert name == "lock"
