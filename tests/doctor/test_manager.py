from pathlib import Path

import pytest

from app.doctor.finding import Status
from app.doctor.manager import check_lingering, check_sandbox, check_service
from app.errors import ServiceManagerError
from app.service.definition import define
from app.service.launchd import Launchd
from app.service.manager import Manager, install
from app.service.systemd import Systemd


class Told:
    """Answers as it was told to, in place of asking launchd or systemd."""

    def __init__(self, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manager = manager
        self._patch = monkeypatch
        self.says(check=None, pid=None, failure=None, has_domain=True)

    def says(self, **answers: object) -> None:
        for name, answer in answers.items():
            if name != "has_domain" or isinstance(self.manager, Launchd):
                self._patch.setattr(self.manager, name, lambda answer=answer: answer)


@pytest.fixture(params=["launchd", "systemd"])
def told(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    manager = Launchd(tmp_path, 501) if request.param == "launchd" else Systemd(tmp_path)
    return Told(manager, monkeypatch)


def test_a_manager_that_cannot_be_asked_is_warned_of(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ServiceManagerError("there is no bus")

    monkeypatch.setattr(told.manager, "check", refuse)
    finding = check_service(told.manager)
    assert (finding.status, finding.says) == (Status.WARN, "there is no bus")


def test_without_a_service_all_is_well(told: Told) -> None:
    assert check_service(told.manager).status is Status.OK


def test_a_mac_without_a_login_at_the_screen_is_warned_of(told: Told) -> None:
    told.says(has_domain=False)
    expected = Status.WARN if told.manager.name == "launchd" else Status.OK
    assert check_service(told.manager).status is expected


def test_a_service_runs_or_has_failed_or_was_stopped(told: Told) -> None:
    manager = told.manager
    install(manager, define(manager.env_file, manager.log_dir, {}))
    told.says(pid=77)
    assert "process 77" in check_service(manager).says
    told.says(pid=None, failure="it ended with exit status 3")
    failed = check_service(manager)
    assert (failed.status, failed.remedy) == (Status.FAIL, "menny service logs")
    told.says(failure=None)
    stopped = check_service(manager)
    assert (stopped.status, stopped.remedy) == (Status.WARN, "menny service start")
    manager.file.write_text("of long ago")
    foreign = check_service(manager)
    assert (foreign.status, foreign.remedy) == (Status.WARN, "menny service install")


def test_a_service_that_ends_at_logout_is_warned_of(tmp_path: Path) -> None:
    assert check_lingering(False, "me", tmp_path).status is Status.OK
    assert check_lingering(True, "me", tmp_path).status is Status.WARN
    (tmp_path / "me").touch()
    assert check_lingering(True, "me", tmp_path).status is Status.OK


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("kernel/unprivileged_userns_clone", "0", Status.WARN),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", Status.WARN),
        ("user/max_user_namespaces", "0", Status.WARN),
        ("user/max_user_namespaces", "30000", Status.OK),
    ],
)
def test_a_kernel_without_namespaces_for_users_is_warned_of(
    tmp_path: Path, name: str, value: str, status: Status
) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f"{value}\n")
    assert check_sandbox(tmp_path).status is status
