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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.documents.document import Picture


class Mark(Record):
    """Where a chapter stands in the recording, in frames at SAMPLE_RATE."""

    title: str
    first: int
    last: int  # frame after its last one


class Label(Record):
    """Tags, chapters and cover of a file."""

    tags: tuple[tuple[str, str], ...] = ()  # names (title, artist, album, track) and values
    chapters: tuple[Mark, ...] = ()
    cover: Picture | None = None  # for the formats of WITH_COVER


class Form(Record):
    """Sample rate and bit depth of a file; `form_for` checks them against the format."""

    rate: int = SAMPLE_RATE  # Hz
    bits: int = 16  # for wav, raw and flac; 32 means float


class LibavFormat(Record):
    """A format that libav writes."""

    container: str
    codec: str
    samples: str  # libav's name of the encoder's sample format; s16 becomes s32 for a bit depth of 24
    bit_rate: int = 0  # 0: lossless
    rates: tuple[int, ...] = ()  # Hz; empty: any
    options: tuple[tuple[str, str], ...] = ()  # encoder options
    gain: float = 1.0  # factor that undoes the encoder's own attenuation


# The bit rates keep a voice of 12 kHz bandwidth unchanged. The options make the encoders two to four times as fast and,
# measured on speech, not worse (docs/experiments.md).
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
        gain=1 / 0.95,  # LAME attenuates by 0.95 (0.45 LU) in case decoding overshoots
    ),
    "m4a": MP4,
    "m4b": MP4,
}
WITH_COVER = ("flac", "mp3", "m4a", "m4b")
FORMATS = ("wav", "raw", "flac", "ogg", "opus", "mp3", "m4a", "m4b")  # by extension
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
_BITS = {"wav": (16, 24, 32), "raw": (16, 24, 32), "flac": (16, 24)}


def format_of(path: str) -> str:
    """The format by the extension; wav for standard output and /dev/null. Raises UsageError."""
    if path in (*STANDARD_OUTPUT, os.devnull):
        return "wav"
    extension = os.path.splitext(path)[1].removeprefix(".").lower()
    if extension not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path!r} has no known audio format", f"name it {known}, or - for WAV on the standard output")
    return extension


def form_for(path: str, rate: int | None, bits: int | None) -> Form:
    """The form asked for; None means the default. Raises UsageError for a rate or depth that the format cannot have."""
    name = format_of(path)
    rates = LIBAV[name].rates if name in LIBAV else ()
    if rate is not None and (rate not in rates if rates else not MIN_RATE <= rate <= MAX_RATE):
        choices = ", ".join(map(str, rates)) if rates else f"{MIN_RATE} to {MAX_RATE}"
        raise UsageError(f"{name} has no sample rate of {rate}", f"choose {choices}")
    choices = ", ".join(map(str, _BITS.get(name, ())))
    if bits is not None and bits not in _BITS.get(name, ()):
        raise UsageError(f"{name} has no bit depth of {bits}", f"choose {choices}" if choices else "leave it out")
    return Form(rate=rate or SAMPLE_RATE, bits=bits or 16)
