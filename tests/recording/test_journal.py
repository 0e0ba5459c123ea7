"""The journal of a render: whatever happens to it, what is complete is found again, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.errors import OutputError, UsageError
from kokoro_common.recording.journal import Journal
from kokoro_common.text.speech import TimedWord
from kokoro_common.wire.messages import ChunkSpoken

ROOT = Path(__file__).parent.parent.parent


def chunk(index: int, frames: int) -> ChunkSpoken:
    text = f"Number {index} – naïve."
    places = tuple(100 * index + at for at in range(len(text)))
    words = (TimedWord(start=0, end=6, first_frame=0, last_frame=frames // 2),)
    return ChunkSpoken(
        utterance="0" * 32, index=index, text=text, start=places[0], places=places, words=words, frames=frames
    )


def audio(index: int, frames: int) -> bytes:
    return np.random.default_rng(index).normal(0, 0.1, frames).astype("<f4").tobytes()


FRAMES = (24_000, 100, 0, 50_000, 7)


def opened(folder: Path, identity: str = "it") -> Journal:
    return Journal(str(folder), identity, "book.m4b")


def fill(journal: Journal, first: int = 0) -> None:
    for index in range(first, len(FRAMES)):
        data = audio(index, FRAMES[index])
        for start in range(0, len(data), 40_000):
            journal.write(data[start : start + 40_000])
        journal.add(chunk(index, FRAMES[index]))


def complete(journal: Journal) -> bool:
    """Whether it holds what `fill` put there, all of it."""
    sound = b"".join(block.tobytes() for block in journal.blocks(0, journal.frames))
    found = [each.replace(utterance="0" * 32) for _, each in journal.chunks()]
    return sound == b"".join(map(audio, range(5), FRAMES)) and found == [chunk(at, FRAMES[at]) for at in range(5)]


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    assert (journal.count, journal.engine, journal.frames) == (0, "", 0)
    journal.begun_by("espeak")
    fill(journal)
    journal.close()
    again = opened(tmp_path / "j")
    assert (again.count, again.engine, again.frames) == (5, "espeak", sum(FRAMES))
    assert complete(again)
    assert oct((tmp_path / "j").stat().st_mode)[-3:] == "700"
    again.remove()
    assert os.listdir(tmp_path) == []


def test_a_part_of_it_can_be_read(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    fill(journal)
    places = [place for place, _ in journal.chunks()]
    assert [each.index for _, each in journal.chunks(places[1])] == [2, 3, 4]
    assert places[-1] == journal.place
    part = np.concatenate(list(journal.blocks(24_050, 74_100)))
    assert part.tobytes() == b"".join(map(audio, range(4), FRAMES))[4 * 24_050 : 4 * 74_100]
    journal.close()


@given(audio_bytes=st.integers(0, 4 * sum(FRAMES)), line_bytes=st.integers(0, 1_500))
@settings(max_examples=60, deadline=None)
def test_cut_anywhere_it_goes_on_to_the_same_end(
    audio_bytes: int, line_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal") / "j"
    journal = opened(folder)
    fill(journal)
    journal.close()
    for name, length in (("audio.f32", audio_bytes), ("chunks.jsonl", line_bytes)):
        os.truncate(folder / name, min(length, (folder / name).stat().st_size))
    again = opened(folder)
    assert again.frames == sum(FRAMES[: again.count])
    fill(again, again.count)
    assert complete(again)
    again.remove()


@given(place=st.integers(0, 4 * sum(FRAMES) - 1), in_audio=st.booleans())
@settings(max_examples=40, deadline=None)
def test_damage_is_seen_and_rendered_anew(place: int, in_audio: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("journal") / "j"
    journal = opened(folder)
    fill(journal)
    journal.close()
    path = folder / ("audio.f32" if in_audio else "chunks.jsonl")
    data = bytearray(path.read_bytes())
    place %= len(data)
    if in_audio:
        data[place] ^= 0x40
    else:
        data[place:] = bytes(len(data) - place)  # zeros, as after a power failure
    path.write_bytes(data)
    again = opened(folder)
    assert again.count < 5
    fill(again, again.count)
    assert complete(again)
    again.remove()


def test_audio_of_an_unfinished_chunk_comes_once_more(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    journal.write(audio(0, 1_000))
    journal.drop_unfinished()
    fill(journal)
    assert complete(journal)
    journal.close()


def test_another_render_finds_nothing_and_does_away_with_nothing_that_is_worth_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path / "j")
    journal.begun_by("kokoro")
    journal.finish("a.mp3", "1")
    fill(journal)
    journal.close()
    monkeypatch.setattr("kokoro_common.recording.journal.WORTH_KEEPING", 1.0)
    with pytest.raises(UsageError, match=f"min of book.m4b as something else are kept; .* rm -r {tmp_path}/j"):
        opened(tmp_path / "j", "another")
    kept = opened(tmp_path / "j")
    assert complete(kept)
    kept.close()
    monkeypatch.undo()
    other = opened(tmp_path / "j", "another")
    assert (other.count, other.engine, other.done) == (0, "", {})
    other.close()


def test_what_has_been_encoded_is_known_by_its_last_key(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    journal.finish("a.mp3", "1")
    journal.finish("ü\n.mp3", "2")
    journal.finish("a.mp3", "3")
    journal.close()
    again = opened(tmp_path / "j")
    assert again.done == {"a.mp3": "3", "ü\n.mp3": "2"}
    again.close()


def test_what_is_open_is_read_on_when_its_folder_is_removed(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    fill(journal, 0)
    shutil.rmtree(tmp_path / "j")
    assert complete(journal)
    journal.remove()


def test_nothing_is_to_be_found_of_an_anonymous_one(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j"), "it", "book.m4b", anonymous=True)
    assert os.listdir(tmp_path) == []
    journal.begun_by("espeak")
    fill(journal)
    assert complete(journal) and journal.engine == "espeak"
    journal.remove()
    assert os.listdir(tmp_path) == []


def test_one_that_cannot_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for anonymous in (False, True):
        if anonymous:
            (tmp_path / "j").mkdir(0o700)
        with pytest.raises(OutputError, match="no space left on device"):
            Journal(str(tmp_path / "j"), "it", "book.m4b", anonymous=anonymous)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("stage", ["_sweep", "_read_identity", "_restore"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_at_its_opening_takes_nothing_away(
    stage: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path / "j")
    fill(journal)
    journal.close()

    def interrupted(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, OutputError)):
        patch.setattr(Journal, stage, interrupted)
        opened(tmp_path / "j")
    again = opened(tmp_path / "j")
    assert complete(again)
    again.close()


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    code = f"from kokoro_common.recording.journal import Journal\nJournal({str(tmp_path / 'j')!r}, 'it', 'book.m4b')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "OutputError: book.m4b is being written by another call; wait for it" in done.stderr
    journal.close()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"book\.m4b cannot be written: not a directory"):
        opened(tmp_path / "file" / "j")
    with pytest.raises(OutputError, match="make the folder first"):
        opened(tmp_path / "missing" / "j")


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "j").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is in the way; remove it"):
        opened(tmp_path / "j")
