"""Conversion, resampling and files: what is written is whole under its final name, or not there at all."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kokoro_common.audio import FORMATS, SAMPLE_RATE, AudioWriter, Resampler, to_pcm16
from kokoro_common.errors import OutputError, UsageError

ROOT = Path(__file__).parent.parent
EXACT = ("wav", "raw", "flac")
Float = NDArray[np.float32]


def noise(frames: int) -> Float:
    """Louder than full scale here and there, and hardly compressible."""
    return np.random.default_rng(1).normal(0, 0.4, frames).astype(np.float32)


def read_pcm16(path: Path) -> NDArray[np.int16]:
    """int16 (frames,)."""
    if path.suffix == ".raw":
        return np.fromfile(path, "<i2")
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == SAMPLE_RATE
    return np.asarray(samples)


# Conversion and resampling


@pytest.mark.parametrize(
    ("sample", "pcm"),
    [(0.0, 0), (1.0, 32_767), (-1.0, -32_767), (1.5, 32_767), (-np.inf, -32_767), (0.5, 16_384), (1.5 / 32_767, 2)],
)
def test_pcm16_is_clipped_and_rounded_to_nearest(sample: float, pcm: int) -> None:
    converted = to_pcm16(np.array([sample], np.float32))
    assert converted.dtype == np.int16
    assert converted.tolist() == [pcm]


def test_every_16_bit_sample_survives_the_way_to_float_and_back() -> None:
    pcm = np.arange(-32_767, 32_768, dtype=np.int16)
    assert to_pcm16((pcm / 32_767).astype(np.float32)).tolist() == pcm.tolist()


def test_pcm16_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_pcm16(np.array([0.0, np.nan], np.float32))


@given(st.lists(st.integers(0, 4_000), max_size=8), st.sampled_from([16_000, 22_050, 44_100, 48_000]))
@settings(max_examples=40, deadline=None)
def test_resampling_does_not_depend_on_how_the_audio_was_cut(sizes: list[int], rate: int) -> None:
    samples = noise(sum(sizes))
    whole, cut = Resampler(SAMPLE_RATE, rate), Resampler(SAMPLE_RATE, rate)
    expected = np.concatenate([whole.feed(samples), whole.flush()])
    pieces = [cut.feed(piece) for piece in np.split(samples, np.cumsum(sizes)[:-1])] if sizes else []
    assert np.array_equal(np.concatenate([*pieces, cut.flush()]), expected)
    assert abs(len(expected) - len(samples) * rate / SAMPLE_RATE) <= 1


def test_a_flushed_resampler_begins_a_new_signal() -> None:
    resampler = Resampler(22_050, SAMPLE_RATE)
    first = np.concatenate([resampler.feed(noise(5_000)), resampler.flush()])
    assert np.array_equal(np.concatenate([resampler.feed(noise(5_000)), resampler.flush()]), first)


def test_resampling_keeps_a_tone() -> None:
    resampler = Resampler(22_050, SAMPLE_RATE)
    tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    resampled = np.concatenate([resampler.feed(tone), resampler.flush()])
    expected = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert np.abs(resampled - expected)[100:-100].max() < 1e-4


# Files


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_keeps_every_frame(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    samples = noise(72_000)
    with AudioWriter(str(path)) as writer:
        for piece in np.split(samples, [1, 5_000, 40_000]):
            writer.write(piece)
    pcm = read_pcm16(path)
    assert len(pcm) == len(samples)
    if extension in EXACT:
        assert pcm.tolist() == to_pcm16(samples).tolist()
    assert os.listdir(tmp_path) == [path.name]


def test_a_wav_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "OUT.WAV"
    with AudioWriter(str(path)) as writer:
        writer.write(noise(1_234))
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (1, 2, SAMPLE_RATE, 1_234)
    assert path.stat().st_size == 44 + 2 * 1_234
    assert struct.unpack_from("<I", path.read_bytes(), 4) == (36 + 2 * 1_234,)


def test_two_minutes_of_vorbis_in_one_write_do_not_crash(tmp_path: Path) -> None:
    code = "import numpy, sys; from kokoro_common.audio import AudioWriter\n"
    code += "with AudioWriter(sys.argv[1]) as writer: writer.write(numpy.zeros(120 * 24_000, numpy.float32))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.ogg")], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", ["out.aiff", "out", ".wav", "out.wav/", ""])
def test_an_unknown_extension_is_refused_with_the_known_ones(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.wav, \.raw, \.flac, \.ogg, \.opus, \.mp3, or - for WAV"):
        AudioWriter(f"{tmp_path}/{path}")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such file or directory; make the folder first"):
        AudioWriter(str(tmp_path / "missing" / "out.wav"))


def test_a_folder_of_that_name_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out.wav").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        AudioWriter(str(tmp_path / "out.wav"))


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write everywhere."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(was)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        os.chmod(name, 0o777)
        yield Path(name)


def test_an_unwritable_folder_is_an_output_error(public_folder: Path, ordinary_user: None) -> None:
    closed = public_folder / "closed"
    closed.mkdir(0o555)
    with pytest.raises(OutputError, match="permission denied; choose another"):
        AudioWriter(str(closed / "out.ogg"))


def test_a_write_protected_file_is_not_replaced(public_folder: Path, ordinary_user: None) -> None:
    path = public_folder / "out.wav"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="permission denied"):
        AudioWriter(str(path))
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("extension", FORMATS)
def test_until_the_commit_the_old_file_stands(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    path.write_bytes(b"old")
    writer = AudioWriter(str(path))
    writer.write(noise(30_000))
    assert path.read_bytes() == b"old"
    writer.commit()
    writer.discard()
    assert len(read_pcm16(path)) == 30_000


@pytest.mark.parametrize("extension", FORMATS)
def test_a_discarded_file_leaves_nothing_and_the_old_one(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), AudioWriter(str(path)) as writer:
        writer.write(noise(30_000))
        raise KeyboardInterrupt
    writer.discard()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("umask", [0o022, 0o027])
@pytest.mark.parametrize("before", [None, 0o600, 0o640])
def test_the_mode_is_that_of_any_new_file_or_of_the_one_that_was_there(
    umask: int, before: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "out.wav"
    if before is not None:
        path.touch()
        path.chmod(before)
    was = os.umask(umask)
    try:
        with AudioWriter(str(path)) as writer:
            writer.write(noise(10))
    finally:
        os.umask(was)
    assert stat.S_IMODE(path.stat().st_mode) == (0o666 & ~umask if before is None else before)


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_written_through(there: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target.bin", tmp_path / "out.wav"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    link.symlink_to("folder/target.bin")
    with AudioWriter(str(link)) as writer:
        writer.write(noise(10))
        assert os.listdir(tmp_path) == ["out.wav", "folder"] or os.listdir(tmp_path) == ["folder", "out.wav"]
    assert link.is_symlink()
    assert target.stat().st_size == 44 + 20


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".wav")
    with AudioWriter(str(path)) as writer:
        writer.write(noise(10))
    assert path.exists()


# What is not a regular file


def run(code: str, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    program = "import sys, numpy\nfrom kokoro_common.audio import AudioWriter\n" + code
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False)


@pytest.mark.parametrize("path", ["-", "/dev/stdout"])
def test_the_standard_output_gets_wav_of_unknown_length(path: str, tmp_path: Path) -> None:
    done = run(f"with AudioWriter({path!r}) as writer:\n for _ in range(3): writer.write(numpy.full(999, 0.5, 'f4'))")
    assert done.stderr == b""
    assert done.stdout[:4] + done.stdout[8:12] + done.stdout[36:40] == b"RIFFWAVEdata"
    assert struct.unpack_from("<I", done.stdout, 40) == (0xFFFF_FFFF,)
    assert np.frombuffer(done.stdout[44:], "<i2").tolist() == [16_384] * 2_997
    (tmp_path / "copy.wav").write_bytes(done.stdout)
    assert read_pcm16(tmp_path / "copy.wav").tolist() == [16_384] * 2_997


def test_a_reader_that_leaves_is_an_output_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("AudioWriter('-').write(numpy.zeros(99, 'f4'))", stdout=writer)
    os.close(writer)
    assert b"OutputError: standard output cannot be written: broken pipe; keep its reader" in done.stderr


@pytest.mark.parametrize("extension", ["wav", "raw"])
def test_a_fifo_is_written_directly(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"pipe.{extension}"
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    with AudioWriter(str(path)) as writer:
        writer.write(noise(50_000))
    reader.join()
    assert np.frombuffer(received[0][-100_000:], "<i2").tolist() == to_pcm16(noise(50_000)).tolist()
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_an_encoded_format_is_refused_where_one_cannot_seek(tmp_path: Path) -> None:
    (tmp_path / "null.mp3").symlink_to("/dev/null")
    with pytest.raises(UsageError, match="only wav and raw"):
        AudioWriter(str(tmp_path / "null.mp3"))


def test_dev_null_takes_everything() -> None:
    with AudioWriter("/dev/null") as writer:
        writer.write(noise(99))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# A full disk


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    """A file system of 64 KiB. Outside of pytest's folders, whose removal a forgotten mount would hinder."""
    libc = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as name:
        if not hasattr(libc, "umount2") or libc.mount(b"none", name.encode(), b"tmpfs", 0, b"size=64k"):
            reason = "mounting a small tmpfs needs root on Linux"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        yield Path(name)
        detach = 2  # MNT_DETACH: even if a failed test has left a file open
        assert libc.umount2(name.encode(), detach) == 0


@pytest.mark.fault
@pytest.mark.parametrize(("seconds", "free_kib"), [(60, 60), (1, 4), (1, 0)])  # full in the middle, at the end, at once
@pytest.mark.parametrize("extension", FORMATS)
def test_a_full_disk_is_an_output_error_in_every_format(
    extension: str, seconds: int, free_kib: int, small_disk: Path
) -> None:
    old, ballast = small_disk / f"out.{extension}", small_disk / "ballast"
    old.write_bytes(b"old")  # a page of 4 KiB
    ballast.write_bytes(bytes((60 - free_kib) * 1024))
    full = pytest.raises(OutputError, match="no space left on device; free some space or choose another folder")
    try:
        with full, AudioWriter(str(old)) as writer:
            for _ in range(seconds):
                writer.write(noise(SAMPLE_RATE))
        assert old.read_bytes() == b"old"
        assert sorted(os.listdir(small_disk)) == ["ballast", old.name]
    finally:
        ballast.unlink()
        old.unlink()


def test_dev_full_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out.wav").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="no space left"):
        AudioWriter(str(tmp_path / "out.wav"))


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.audio; print({'numpy', 'soundfile', 'soxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"set()\n"
