"""Audio formats: which there are, what each can be, and what a file says of itself.

wav, raw               PCM, written by encoders.py itself
flac, opus, mp3        by libav; m4a and m4b too
ogg                    Vorbis, by libsndfile
"""

from __future__ import annotations

import os

from kokoro_common.errors import UsageError
from kokoro_common.record import Record
from kokoro_common.recording.outfile import STANDARD_OUTPUT
from kokoro_common.sound.samples import SAMPLE_RATE


class Mark(Record):
    """Where a chapter stands in the recording, in frames at SAMPLE_RATE."""

    title: str
    first: int
    last: int  # behind its last frame


class Label(Record):
    """What a file says of itself."""

    tags: tuple[tuple[str, str], ...] = ()  # title, artist, album, track, and their values
    chapters: tuple[Mark, ...] = ()


class Form(Record):
    """How a file is written. `form_for` says what goes with which format."""

    rate: int = SAMPLE_RATE  # Hz
    bits: int = 16  # of wav, raw and flac; 32 are a float


class LibavFormat(Record):
    """A format of libav's."""

    container: str
    codec: str
    samples: str  # libav's name of how the encoder takes them; s16 is s32 for a bit depth of 24
    bit_rate: int = 0  # 0: lossless
    rates: tuple[int, ...] = ()  # Hz; none: any
    options: tuple[tuple[str, str], ...] = ()  # of the encoder
    gain: float = 1.0  # that makes up for what the encoder takes


# The bit rates leave a voice of 12 kHz bandwidth as it is. The options make the encoders two to four times as fast and,
# measured on speech, none of them worse (docs/experiments.md).
_MPEG = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MP4 = LibavFormat(
    container="ipod",
    codec="aac",
    samples="fltp",
    bit_rate=64_000,
    rates=(*_MPEG, 64000, 88200, 96000),
    options=(("aac_coder", "fast"),),
)
LIBAV = {
    "flac": LibavFormat(container="flac", codec="flac", samples="s16"),
    "opus": LibavFormat(
        container="ogg",
        codec="libopus",
        samples="flt",
        bit_rate=40_000,
        rates=(8000, 12000, 16000, 24000, 48000),
        options=(("compression_level", "5"),),
    ),
    "mp3": LibavFormat(
        container="mp3",
        codec="libmp3lame",
        samples="fltp",
        bit_rate=64_000,
        rates=_MPEG,
        options=(("compression_level", "7"),),
        gain=1 / 0.95,  # LAME turns everything down by that, in case decoding overshoots; it is 0.45 LU
    ),
    "m4a": MP4,
    "m4b": MP4,
}
FORMATS = ("wav", "raw", "flac", "ogg", "opus", "mp3", "m4a", "m4b")  # by extension
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
_BITS = {"wav": (16, 24, 32), "raw": (16, 24, 32), "flac": (16, 24)}


def format_of(path: str) -> str:
    """By the extension; wav for what has none because it is no file. Raises UsageError."""
    if path in (*STANDARD_OUTPUT, os.devnull):
        return "wav"
    extension = os.path.splitext(path)[1].removeprefix(".").lower()
    if extension not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path!r} has no known audio format", f"name it {known}, or - for WAV on the standard output")
    return extension


def form_for(path: str, rate: int | None, bits: int | None) -> Form:
    """What was asked for, None being the usual. Raises UsageError for what the format of `path` cannot be."""
    name = format_of(path)
    rates = LIBAV[name].rates if name in LIBAV else ()
    if rate is not None and (rate not in rates if rates else not MIN_RATE <= rate <= MAX_RATE):
        choices = ", ".join(map(str, rates)) if rates else f"{MIN_RATE} to {MAX_RATE}"
        raise UsageError(f"{name} has no sample rate of {rate}", f"choose {choices}")
    choices = ", ".join(map(str, _BITS.get(name, ())))
    if bits is not None and bits not in _BITS.get(name, ()):
        raise UsageError(f"{name} has no bit depth of {bits}", f"choose {choices}" if choices else "leave it out")
    return Form(rate=rate or SAMPLE_RATE, bits=bits or 16)
