"""A worker's answer is the one to the request that was asked, or the worker is lost: nothing is left in its pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import pytest

from kokoro_common.worker import Worker, WorkerLost, command

SECONDS = 20.0
LINE = command("tests.helpers.odd_worker")


@pytest.fixture
def started() -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(LINE))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def test_each_request_gets_its_own_answer(started: Callable[[], Worker]) -> None:
    worker = started()
    for number in range(100):
        assert worker.ask(f"well {number}".encode(), SECONDS) == str(number).encode()
    large = b"x" * 3_000_000  # more than a pipe holds, both ways
    assert worker.ask(b"well " + large, SECONDS) == large


@pytest.mark.parametrize("how", ["late", "endless", "ends"])
def test_an_answer_to_another_request_ends_the_worker(started: Callable[[], Worker], how: str) -> None:
    worker = started()
    assert worker.ask(b"well a", SECONDS) == b"a"
    process = psutil.Process(worker.pid)
    with pytest.raises(WorkerLost):
        worker.ask(f"{how} b".encode(), SECONDS)
    assert psutil.wait_procs([process], SECONDS)[1] == []
    with pytest.raises(WorkerLost):
        worker.ask(b"well c", SECONDS)


def test_an_answer_that_nobody_asked_for_is_not_the_next_ones(started: Callable[[], Worker]) -> None:
    worker = started()
    assert worker.ask(b"twice a", SECONDS) == b"a"
    with pytest.raises(WorkerLost):
        worker.ask(b"well b", SECONDS)


@pytest.mark.parametrize("how", ["half", "stops"])
def test_a_worker_that_is_silent_is_ended(
    started: Callable[[], Worker], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kokoro_common.worker.CLOSE_SECONDS", 0.1)
    worker = started()
    assert worker.ask(b"well a", SECONDS) == b"a"
    process = psutil.Process(worker.pid)
    with pytest.raises(WorkerLost, match="does not answer"):
        worker.ask(f"{how} b".encode(), 0.5)
    assert psutil.wait_procs([process], SECONDS)[1] == []


def test_what_a_library_prints_is_no_answer(started: Callable[[], Worker], capfd: pytest.CaptureFixture[str]) -> None:
    worker = started()
    assert worker.ask(b"noise a", SECONDS) == b"a"
    assert worker.ask(b"well b", SECONDS) == b"b"
    assert capfd.readouterr().err == "a library says this\nand this"


def test_a_forked_process_that_is_killed_answers_nothing_itself(started: Callable[[], Worker]) -> None:
    worker = started()
    assert worker.ask(b"forks", SECONDS) == b"-9 b''"
    assert worker.ask(b"well b", SECONDS) == b"b"


def test_what_a_worker_has_forked_ends_with_it(started: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kokoro_common.worker.CLOSE_SECONDS", 0.1)
    worker = started()
    assert worker.ask(b"leaves a", SECONDS) == b"a"
    children = psutil.Process(worker.pid).children()
    assert len(children) == 1
    worker.close()
    worker.close()
    assert psutil.wait_procs(children, SECONDS)[1] == []
