"""espeak-ng's phonemes from another process: the same as in this one, whatever becomes of that process."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from kokoro_common.errors import KokoroError
from kokoro_common.phonemes.espeak_process import SECONDS, EspeakCrashed, EspeakProcess
from tests.conftest import ROOT

SPANISH = {"language": "es", "with_stress": True}
SEGFAULT = "'-यक"  # in Spanish, of espeak-ng 1.52
FRAGILE = ROOT / "tests" / "faults" / "fragile_espeak.py"


@pytest.fixture
def process(tmp_path: Path) -> EspeakProcess:
    return EspeakProcess(str(tmp_path / "copies"))


@pytest.fixture
def fragile(process: EspeakProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EspeakProcess:
    """The library aborts at "¤" and never returns from "§"; the time limit is 1 s."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FRAGILE} {ROOT} {sys.executable} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return process


def tree(process: EspeakProcess) -> list[psutil.Process]:
    assert process._worker is not None
    worker = psutil.Process(process._worker.pid)
    return [worker, *worker.children()]


def test_the_phonemes_are_phonemizers(process: EspeakProcess) -> None:
    import misaki.espeak  # noqa: F401 - tells phonemizer where the library is
    from phonemizer.backend import EspeakBackend

    text = "¿Qué tal, río? 21 €"
    assert process.backend(**SPANISH).phonemize([text]) == EspeakBackend(**SPANISH).phonemize([text])


@pytest.mark.parametrize("language", ["en-us", "en-gb", "es"])
def test_no_mark_is_left_where_the_language_changes(process: EspeakProcess, language: str) -> None:
    """misaki's English keeps these marks: "(ko)" would be said as a word."""
    backend = process.backend(language=language, preserve_punctuation=True, with_stress=True, tie="^")
    (phonemes,) = backend.phonemize(["안녕하세요 გამარჯობა நான் x"])
    assert "(" not in phonemes and "ɐnnjʌŋ" in phonemes and "ɡˈamar" in phonemes


def test_a_text_that_is_a_segmentation_fault_is_said_and_the_next_is_spoken(process: EspeakProcess) -> None:
    backend = process.backend(**SPANISH)
    for _ in range(3):
        assert backend.phonemize(["uno"]) == ["ˈuno "]
        with pytest.raises(EspeakCrashed, match="signal 11"):
            backend.phonemize([SEGFAULT])
    assert len(list((Path(process._temporary_dir)).iterdir())) <= 1  # of the child that is there


def test_an_abort_and_a_hang_end_in_time(fragile: EspeakProcess) -> None:
    backend = fragile.backend(**SPANISH)
    with pytest.raises(EspeakCrashed, match="signal 6"):
        backend.phonemize(["¤"])
    with pytest.raises(KokoroError, match=f"more than {SECONDS} s over 1 characters; leave"):
        backend.phonemize(["§"])
    assert backend.phonemize(["uno"]) == ["ˈuno "]


@pytest.mark.parametrize("whom", [0, 1])
def test_a_process_that_is_killed_between_two_texts_is_replaced(process: EspeakProcess, whom: int) -> None:
    backend = process.backend(**SPANISH)
    before = backend.phonemize(["uno"])
    victim = tree(process)[whom]
    victim.send_signal(signal.SIGKILL)
    psutil.wait_procs([victim], 10)
    assert backend.phonemize(["uno"]) == before
    assert backend.phonemize(["dos"]) != before


def test_a_process_that_was_started_ahead_is_the_one_that_answers(process: EspeakProcess, tmp_path: Path) -> None:
    process.start()
    process.start()
    worker = process._worker
    assert worker is not None
    assert process.ask(SPANISH, "hola") == ["ˈola "]
    assert process._worker is worker
    assert list(tmp_path.glob("copies/*/**/libespeak-ng*"))  # where they can be swept


def test_a_start_ahead_that_fails_is_told_to_who_asks(process: EspeakProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    process.start()
    with pytest.raises(KokoroError, match="cannot be used"):
        process.ask(SPANISH, "hola")


def test_a_worker_that_cannot_start_is_one_line(process: EspeakProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    # The pipe may tell that it ended, or only that nobody reads any more.
    with pytest.raises(KokoroError, match=r"espeak-ng cannot be used: its process: it ended.*; see the log"):
        process.backend(**SPANISH).phonemize(["uno"])


def test_a_library_that_cannot_be_used_is_one_line(process: EspeakProcess) -> None:
    with pytest.raises(KokoroError, match=r"espeak-ng cannot be used: RuntimeError.*language"):
        process.backend(language="xx").phonemize(["uno"])


def test_the_processes_end_with_their_owner_and_leave_nothing(process: EspeakProcess, tmp_path: Path) -> None:
    owner = EspeakProcess(str(tmp_path / "own"))
    owner.backend(**SPANISH).phonemize(["uno"])
    processes = tree(owner)
    assert len(processes) == 2
    del owner
    gc.collect()
    assert psutil.wait_procs(processes, 10)[1] == []
    assert os.listdir(tmp_path / "own") == []
