"""Files: what is written is whole under its final name, or not there at all, and other programs read it."""

from __future__ import annotations

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

import mutagen
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from kokoro_common.errors import OutputError, UsageError
from kokoro_common.recording.encoders import AudioWriter
from kokoro_common.recording.formats import FORMATS, Form, Label, Mark, form_for
from kokoro_common.sound.samples import SAMPLE_RATE, to_pcm16
from tests.helpers.players import ffmpeg, probe
from tests.helpers.small_disk import small_disk

ROOT = Path(__file__).parent.parent.parent
EXACT = ("wav", "raw", "flac")
MP4 = ("m4a", "m4b")  # soundfile does not read them
AAC_FRAME = 1024
Float = NDArray[np.float32]


def noise(frames: int) -> Float:
    """Louder than full scale here and there, and hardly compressible."""
    return np.random.default_rng(1).normal(0, 0.4, frames).astype(np.float32)


def read_pcm16(path: Path) -> NDArray[np.int16]:
    """int16 (frames,)."""
    if path.suffix == ".raw":
        return np.fromfile(path, "<i2")
    if path.suffix[1:] in MP4:
        decoded = ffmpeg("-i", str(path), "-f", "s16le", "-")
        return np.frombuffer(decoded, "<i2")
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == SAMPLE_RATE
    return np.asarray(samples)


# Files


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_keeps_every_frame(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    samples = noise(72_000)
    with AudioWriter(str(path)) as writer:
        for piece in np.split(samples, [1, 5_000, 40_000]):
            writer.write(piece)
    pcm = read_pcm16(path)
    if extension in MP4:  # ends with a whole frame of its own
        assert len(samples) <= len(pcm) < len(samples) + AAC_FRAME
        assert float(probe(path)["streams"][0]["duration"]) == len(samples) / SAMPLE_RATE
    else:
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
    code = "import numpy, sys; from kokoro_common.recording.encoders import AudioWriter\n"
    code += "with AudioWriter(sys.argv[1]) as writer: writer.write(numpy.zeros(120 * 24_000, numpy.float32))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.ogg")], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", ["out.aiff", "out", ".wav", "out.wav/", ""])
def test_an_unknown_extension_is_refused_with_the_known_ones(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.wav, \.raw, \.flac, \.ogg, \.opus, \.mp3, \.m4a, \.m4b, or - for WAV"):
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
    assert 30_000 <= len(read_pcm16(path)) < 30_000 + (AAC_FRAME if extension in MP4 else 1)


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
    program = "import sys, numpy\nfrom kokoro_common.recording.encoders import AudioWriter\n" + code
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
def disk() -> Iterator[Path]:
    """64 KiB. Outside of pytest's folders, whose removal a forgotten mount would hinder."""
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name), "64k") as path:
        yield path


@pytest.mark.fault
@pytest.mark.parametrize(("seconds", "free_kib"), [(60, 60), (1, 4), (1, 0)])  # full in the middle, at the end, at once
@pytest.mark.parametrize("extension", FORMATS)
def test_a_full_disk_is_an_output_error_in_every_format(
    extension: str, seconds: int, free_kib: int, disk: Path
) -> None:
    old, ballast = disk / f"out.{extension}", disk / "ballast"
    old.write_bytes(b"old")  # a page of 4 KiB
    ballast.write_bytes(bytes((60 - free_kib) * 1024))
    full = pytest.raises(OutputError, match="no space left on device; free some space or choose another folder")
    try:
        with full, AudioWriter(str(old)) as writer:
            for _ in range(seconds):
                writer.write(noise(SAMPLE_RATE))
        assert old.read_bytes() == b"old"
        assert sorted(os.listdir(disk)) == ["ballast", old.name]
    finally:
        ballast.unlink()
        old.unlink()


def test_dev_full_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out.wav").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="no space left"):
        AudioWriter(str(tmp_path / "out.wav"))


# Forms, tags and chapters

LABEL = Label(
    tags=(("title", "Der Böse Geist"), ("artist", "A. Uthor"), ("album", "Two 😀"), ("track", "3")),
    chapters=(Mark(title="One", first=0, last=30_000), Mark(title="Zwei: ü", first=30_000, last=72_123)),
)


@pytest.mark.parametrize("extension", [each for each in FORMATS if each != "raw"])
def test_players_see_the_tags_and_the_chapters(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    with AudioWriter(str(path), None, LABEL) as writer:
        writer.write(noise(72_123))
    seen = probe(path)
    tags = {key.lower(): value for key, value in (seen["format"].get("tags") or seen["streams"][0]["tags"]).items()}
    assert {key: tags[key] for key, _ in LABEL.tags} == dict(LABEL.tags)
    chapters = [(round(float(each["start_time"]), 3), each["tags"]["title"]) for each in seen["chapters"]]
    assert chapters == ([] if extension == "wav" else [(0.0, "One"), (1.25, "Zwei: ü")])
    if extension != "wav":
        assert abs(float(seen["chapters"][-1]["end_time"]) - 72_123 / SAMPLE_RATE) <= 0.02  # of opus with its padding


@pytest.mark.parametrize(
    ("extension", "keys"), [("mp3", ("TIT2", "TPE1")), ("m4b", ("\xa9nam", "\xa9ART")), ("ogg", ("title", "artist"))]
)
def test_mutagen_reads_the_tags_too(extension: str, keys: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    with AudioWriter(str(path), None, LABEL) as writer:
        writer.write(noise(72_123))
    file = mutagen.File(path)
    assert [str(file.tags[key][0]) for key in keys] == ["Der Böse Geist", "A. Uthor"]
    assert abs(file.info.length - 72_123 / SAMPLE_RATE) <= 0.075  # of mp3, whose frames last 24 ms, with its padding


def test_a_thousand_chapters_of_long_names_fit_into_every_format(tmp_path: Path) -> None:
    marks = tuple(
        Mark(title=f"{number} " + "x" * 90, first=number * 480, last=number * 480 + 480) for number in range(999)
    )
    for extension in ("flac", "ogg", "opus", "mp3", "m4b"):
        path = tmp_path / f"out.{extension}"
        with AudioWriter(str(path), None, Label(chapters=marks)) as writer:
            writer.write(noise(999 * 480))
        seen = probe(path)["chapters"]
        assert [each["tags"]["title"] for each in seen] == [mark.title for mark in marks]
        assert 999 * 480 <= len(read_pcm16(path)) < 999 * 480 + AAC_FRAME


@pytest.mark.parametrize("extension", [each for each in FORMATS if each != "raw"])
def test_no_format_is_louder_or_softer_than_what_was_written(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(72_000) / SAMPLE_RATE)).astype(np.float32)
    with AudioWriter(str(path)) as writer:
        writer.write(tone)
    heard = np.frombuffer(ffmpeg("-i", str(path), "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"), "<f4")
    assert abs(20 * np.log10(heard[2_000:70_000].std() / tone[2_000:70_000].std())) < 0.1  # dB


@pytest.mark.parametrize("extension", FORMATS)
def test_the_same_samples_give_the_same_bytes(extension: str, tmp_path: Path) -> None:
    files = []
    for name, pieces in (("a", [72_123]), ("b", [1, 30_000, 42_122])):
        path = tmp_path / f"{name}.{extension}"
        with AudioWriter(str(path), None, LABEL) as writer:
            for piece in np.split(noise(72_123), np.cumsum(pieces)[:-1]):
                writer.write(piece)
        files.append(path.read_bytes())
    if extension in EXACT:
        assert files[0] == files[1]
    again = tmp_path / f"c.{extension}"
    with AudioWriter(str(again), None, LABEL) as writer:
        writer.write(noise(72_123))
    assert files[0] == again.read_bytes()


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("extension", ["wav", "flac", "raw"])
def test_more_bits_are_kept(extension: str, bits: int, tmp_path: Path) -> None:
    if (extension, bits) == ("flac", 32):
        return
    path = tmp_path / f"out.{extension}"
    samples = np.clip(noise(50_000), -1, 1)
    with AudioWriter(str(path), form_for(str(path), None, bits)) as writer:
        writer.write(samples)
    if extension == "raw":
        assert path.stat().st_size == 50_000 * bits // 8
        return
    read, _ = soundfile.read(path, dtype="float32")
    assert soundfile.info(path).subtype == ("FLOAT" if bits == 32 else "PCM_24")
    assert np.abs(read - samples).max() <= (0.0 if bits == 32 else 2**-22)  # 8,388,607 or 8,388,608 are 1


@pytest.mark.parametrize("extension", FORMATS)
def test_another_sample_rate_keeps_the_length(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{extension}"
    with AudioWriter(str(path), form_for(str(path), 48_000, None), LABEL) as writer:
        for piece in np.split(noise(72_123), 5 * np.arange(1, 9_000)[:3]):
            writer.write(piece)
    if extension == "raw":
        assert path.stat().st_size == 2 * 2 * 72_123
        return
    seen = probe(path)["streams"][0]
    assert seen["sample_rate"] == "48000"
    frames = len(ffmpeg("-i", str(path), "-f", "s16le", "-")) // 2
    assert 2 * 72_123 <= frames < 2 * 72_123 + (AAC_FRAME if extension in MP4 else 1)


@pytest.mark.parametrize(
    ("path", "rate", "bits", "problem"),
    [
        ("a.mp3", 96_000, None, "mp3 has no sample rate of 96000; choose 8000, 11025"),
        ("a.opus", 44_100, None, "opus has no sample rate of 44100; choose 8000, 12000, 16000, 24000, 48000"),
        ("a.wav", 4_000, None, "wav has no sample rate of 4000; choose 8000 to 192000"),
        ("a.mp3", None, 16, "mp3 has no bit depth of 16; leave it out"),
        ("a.flac", None, 32, "flac has no bit depth of 32; choose 16, 24"),
        ("-", None, 8, "wav has no bit depth of 8; choose 16, 24, 32"),
    ],
)
def test_what_a_format_cannot_be_is_a_usage_error(path: str, rate: int | None, bits: int | None, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        form_for(path, rate, bits)


def test_the_usual_form_is_16_bits_at_24_khz() -> None:
    assert form_for("a.wav", None, None) == Form(rate=24_000, bits=16)
