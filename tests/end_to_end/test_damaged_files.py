"""Promise 4, with files: whatever is put over the weights that serve, the old model goes on."""

import asyncio
import random
import shutil
import signal
from pathlib import Path

import pytest

from app.inference.decoding import Prompt
from app.inference.model import ServedModel
from tests.damage import corpus
from tests.damage.archive import Damaged, with_array
from tests.end_to_end.load import traffic, until
from tests.service import Service, running_service
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights

SHIPPED = load_weights(SHIPPED_WEIGHTS)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "menny.npz"
    _put_whole(path)
    return path


def _put_whole(path: Path) -> None:
    shutil.copy(SHIPPED_WEIGHTS, path)
    shutil.copy(card_path(SHIPPED_WEIGHTS), card_path(path))


def _clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _sample(num_files: int) -> list[Damaged]:
    """Files of every kind that can't load, whoever reads them: root may read anything."""
    sure = [d for d in corpus() if d.says is not None and d.says != "Permission denied"]
    return random.Random(6).sample(sure, num_files - 12) + sure[-12:]


def _assert_right(answers: list[dict[str, str]]) -> None:
    model = ServedModel(SHIPPED, max_batch=64)
    for start in range(0, len(answers), 64):
        batch = answers[start : start + 64]
        expected = model.answer([Prompt(answer["query"]) for answer in batch])
        assert [a.response for a in expected] == [a["response"] for a in batch]
        assert {answer["model_version"] for answer in batch} == {SHIPPED.version}


@pytest.mark.parametrize("num_files", [24, pytest.param(100, marks=pytest.mark.slow)])
def test_whatever_damaged_file_is_put_over_the_weights_the_old_model_goes_on_answering(
    served: Path, num_files: int
) -> None:
    async def scenario(service: Service) -> list[dict[str, str]]:
        async with traffic(service.url, 2) as seen:
            await until(lambda: bool(seen.answers))
            for number, damaged in enumerate(_sample(num_files), start=1):
                _clear(served.parent)
                damaged.make(served)
                service.process.send_signal(signal.SIGHUP)
                await until(lambda number=number: service.log.count("can't serve") == number)
                answered = len(seen.answers)
                await until(lambda answered=answered: len(seen.answers) > answered)
                health = service.client.get("/health")
                assert health.status_code == 200, damaged.name
                assert health.json()["model_version"] == SHIPPED.version, damaged.name
                assert damaged.says in health.json()["reason"], damaged.name
                assert "menny." in health.json()["reason"], damaged.name
            _clear(served.parent)
            _put_whole(served)
            service.process.send_signal(signal.SIGHUP)
            await until(lambda: service.client.get("/health").json()["reason"] is None)
        assert not seen.failed + seen.refused + seen.unconnected
        return seen.answers

    with running_service(MENNY_WEIGHTS=served) as service:
        _assert_right(asyncio.run(scenario(service)))
        assert "Traceback" not in service.log
        assert service.client.get("/health").json()["proven"] is True


def test_weights_that_are_finite_but_too_large_to_answer_with_are_refused(served: Path) -> None:
    huge = SHIPPED.parameters["fc.weight"] * 0 + 3e38
    with running_service(MENNY_WEIGHTS=served) as service:
        service.transform("MeM")
        card_path(served).unlink()
        served.write_bytes(with_array(huge))
        service.process.send_signal(signal.SIGHUP)
        asyncio.run(until(lambda: "can't serve" in service.log))
        assert "the answers are no numbers" in service.client.get("/health").json()["reason"]
        assert service.transform("MeM")["model_version"] == SHIPPED.version
        assert "Traceback" not in service.log


def test_a_file_that_is_read_while_it_is_still_being_written_does_no_harm(served: Path) -> None:
    """As `cp` would, and not with a rename: each SIGHUP finds more of it."""

    async def scenario(service: Service) -> list[dict[str, str]]:
        async with traffic(service.url, 2) as seen:
            await until(lambda: bool(seen.answers))
            data = SHIPPED_WEIGHTS.read_bytes()
            with served.open("wb", buffering=0) as file:
                for number, start in enumerate(range(0, len(data), len(data) // 20), start=1):
                    service.process.send_signal(signal.SIGHUP)
                    await until(lambda number=number: service.log.count("can't serve") >= number)
                    file.write(data[start : start + len(data) // 20])
            service.process.send_signal(signal.SIGHUP)
            await until(lambda: service.client.get("/health").json()["reason"] is None)
        assert not seen.failed + seen.refused + seen.unconnected
        return seen.answers

    with running_service(MENNY_WEIGHTS=served) as service:
        _assert_right(asyncio.run(scenario(service)))
        assert "Traceback" not in service.log
