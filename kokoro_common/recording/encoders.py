"""Audio files: wav, raw, flac, ogg (Vorbis), opus, mp3, m4a and m4b, written while the audio arrives.

The same samples, tags and chapters give the same bytes. wav and raw are written here, Vorbis by libsndfile, everything
else by libav (PyAV). Both libraries are imported when first needed.
"""

from __future__ import annotations

import contextlib
import struct

from kokoro_common.errors import UsageError
from kokoro_common.recording.formats import LIBAV, MP4, Form, Label, LibavFormat, format_of
from kokoro_common.recording.ogg import OggComments
from kokoro_common.recording.outfile import OutputFile
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler, to_pcm16, to_pcm24

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from kokoro_common.documents.document import Picture
    from kokoro_common.sound.samples import Samples

    class Encoder(Protocol):
        def write(self, samples: Samples) -> None: ...

        def end(self) -> None: ...

        def close(self) -> None: ...


_SAME_BYTES = {"fflags": "+bitexact"}  # no random serial numbers, no dates
_HEADER_BYTES = 44
_UNKNOWN_LENGTH = 0xFFFF_FFFF  # bytes, in the WAV header of a stream; also the greatest length it can hold


class AudioWriter:
    """Writes a file while its audio arrives. For one thread.

        with AudioWriter("out.ogg") as writer:  # leaving the block commits; an exception discards
            writer.write(samples)

    The format follows the extension (formats.FORMATS); "-" is WAV on the standard output. The file appears under its
    name as OutputFile says. A pipe or a device can only be given wav or raw, without tags.

    Raises UsageError for an extension it does not know, OutputError for everything that cannot be opened or written.
    """

    def __init__(
        self,
        path: str,
        form: Form | None = None,
        label: Label | None = None,
        *,
        scratch: str = "",
        rate: int = SAMPLE_RATE,
    ) -> None:
        """`scratch`: see OutputFile. `rate`: of the samples that `write` is given, Hz."""
        name = format_of(path)
        form, label = form or Form(), label or Label()
        self._resampler = Resampler(rate, form.rate) if form.rate != rate else None
        self._output = OutputFile(path, scratch)
        self._encoder: Encoder | None = None
        try:
            if name not in ("wav", "raw") and not self._output.regular:
                raise UsageError(f"{path} is not a regular file", "only wav and raw can be written there")
            with self._output.checked():
                self._encoder = _encoder(name, self._output, form, label)
            self.encoded = not isinstance(self._encoder, _Pcm)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def write(self, samples: Samples) -> None:
        """Appends float32 (frames,). Blocks on the disk or on the pipe's reader."""
        assert self._encoder is not None
        if self._resampler is not None:
            samples = self._resampler.feed(samples)
        with self._output.checked():
            # libsndfile 1.2.2 copies the samples of one call to the stack for Vorbis: 120 s crash the process.
            for start in range(0, len(samples), SAMPLE_RATE):
                self._encoder.write(samples[start : start + SAMPLE_RATE])

    def commit(self) -> None:
        """Completes the file, waits until it is on the disk, puts it under its name. Discards if that fails."""
        encoder = self._encoder
        assert encoder is not None
        try:
            with self._output.checked():
                if self._resampler is not None and len(rest := self._resampler.flush()):
                    encoder.write(rest)
                encoder.end()
            self._encoder = None
            self._output.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes the unfinished file; an earlier file of that name stays. Does nothing after `commit()`."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None
        self._output.discard()


def _encoder(name: str, output: OutputFile, form: Form, label: Label) -> Encoder:
    if name in LIBAV:
        return _Libav(LIBAV[name], output, form, label)
    if name == "ogg":
        return _Vorbis(output, form, label)
    return _Pcm(output, form, label if name == "wav" else None)


class _Pcm:
    """wav, or without a header raw, little-endian."""

    def __init__(self, output: OutputFile, form: Form, label: Label | None) -> None:
        self._output = output
        self._form = form
        self._label = label
        self._bytes = 0
        if label is not None:
            output.write(_wav_header(form, _UNKNOWN_LENGTH))

    def write(self, samples: Samples) -> None:
        pcm = _pcm(samples, self._form.bits)
        self._bytes += len(pcm)
        self._output.write(pcm)

    def end(self) -> None:
        if self._label is None:
            return
        if not self._output.regular:
            if self._bytes % 2 == 0:  # else a byte more would have to follow, and the next one may be another's
                self._output.mend(_wav_header(self._form, self._bytes), _HEADER_BYTES + self._bytes)
            return
        info = _wav_info(self._label)
        if 36 + self._bytes + len(info) >= _UNKNOWN_LENGTH:
            info = b""  # the header could not say where the audio ends, so a player would play the tags
        self._output.write(bytes(self._bytes % 2) + info)
        self._output.seek(0)
        self._output.write(_wav_header(self._form, self._bytes, len(info)))

    def close(self) -> None:
        """There is nothing to close."""


def _pcm(samples: Samples, bits: int) -> bytes:
    """Little-endian integers of 16 or 24 bits, or float32."""
    import numpy as np

    if bits == 16:
        return to_pcm16(samples).astype("<i2", copy=False).tobytes()
    if bits == 24:
        return (
            np.ascontiguousarray(to_pcm24(samples).astype("<i4", copy=False)).view("u1").reshape(-1, 4)[:, :3].tobytes()
        )
    return samples.astype("<f4", copy=False).tobytes()


def _wav_header(form: Form, pcm_bytes: int, info_bytes: int = 0) -> bytes:
    """44 bytes: RIFF, a `fmt ` chunk (mono; 1 is PCM, 3 float), the head of `data`. Past 4 GiB lengths are unknown."""
    data = min(pcm_bytes, _UNKNOWN_LENGTH)
    riff = min(36 + pcm_bytes + pcm_bytes % 2 + info_bytes, _UNKNOWN_LENGTH)
    width = form.bits // 8
    sound = (3 if form.bits == 32 else 1, 1, form.rate, width * form.rate, width, form.bits)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, *sound, b"data", data)


def _wav_info(label: Label) -> bytes:
    """The tags as a LIST chunk, which follows the audio."""
    keys = {"title": b"INAM", "artist": b"IART", "album": b"IPRD", "track": b"ITRK"}
    info = b"INFO"
    for key, value in label.tags:
        text = value.encode() + b"\0"
        info += struct.pack("<4sI", keys[key], len(text)) + text + bytes(len(text) % 2)
    return struct.pack("<4sI", b"LIST", len(info)) + info if label.tags else b""


class _Libav:
    """One mono stream in a container of libav's."""

    def __init__(self, kind: LibavFormat, output: OutputFile, form: Form, label: Label) -> None:
        import av

        self._form = form
        self._kind = kind
        self._gain = kind.gain
        self._samples = "s32" if kind.samples == "s16" and form.bits == 24 else kind.samples
        self._frames = 0
        self._container: Any = av.open(output, "w", format=kind.container, options=_SAME_BYTES)
        self._stream: Any
        self._stream = self._container.add_stream(kind.codec, rate=form.rate, options=dict(kind.options))
        self._stream.layout, self._stream.format = "mono", self._samples
        self._stream.codec_context.flags |= av.codec.context.Flags.bitexact.value
        if kind.bit_rate:
            self._stream.bit_rate = kind.bit_rate
        tags = dict(label.tags)
        if kind.container in ("flac", "ogg"):
            tags |= _chapter_comments(label)
        elif label.chapters:
            self._container.set_chapters(_chapters(label))
        if kind is MP4:
            tags["media_type"] = "2" if label.chapters else "1"  # iTunes: an audiobook; music
        self._container.metadata.update(tags)
        self._file, self._cover = output, label.cover
        if label.cover is not None and kind is not MP4:
            self._add_picture(label.cover)

    def write(self, samples: Samples) -> None:
        import av
        import numpy as np

        data: Any = samples if self._gain == 1.0 else samples * np.float32(self._gain)
        if self._samples == "s16":
            data = to_pcm16(samples)
        elif self._samples == "s32":
            data = to_pcm24(samples) << 8
        data = np.ascontiguousarray(data)[None]  # (1, frames)
        frame = av.AudioFrame.from_ndarray(data, format=self._samples, layout="mono")
        frame.sample_rate, frame.pts = self._form.rate, self._frames
        self._frames += len(samples)
        self._mux(frame)

    def end(self) -> None:
        self._mux(None)  # flushes the encoder
        self._container.close()
        if self._cover is not None and self._kind is MP4:
            from kokoro_common.recording.mp4_cover import add_cover

            add_cover(self._file, self._cover.mime, self._cover.data)

    def close(self) -> None:
        import av

        with contextlib.suppress(av.FFmpegError, OSError, ValueError):  # the file is discarded anyway
            self._container.close()

    def _add_picture(self, cover: Picture) -> None:
        """As a stream of one packet, the picture as it is. Before any audio, which goes after it in the file."""
        from fractions import Fraction

        import av

        codec = {"image/jpeg": "mjpeg", "image/png": "png"}[cover.mime]
        shown: Any = self._container.add_mux_stream(codec, rate=1, width=cover.width, height=cover.height)
        shown.disposition, shown.time_base = av.stream.Disposition.attached_pic, Fraction(1, 1000)
        packet: Any = av.Packet(cover.data)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = shown, 0, 0, True
        self._container.mux(packet)

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


class _Vorbis:
    """Vorbis by libsndfile: libav's own encoder is not good enough for speech, and PyAV brings no other."""

    def __init__(self, output: OutputFile, form: Form, label: Label) -> None:
        import soundfile

        pages = OggComments(output, dict(label.tags) | _chapter_comments(label))
        self._encoder: Any = soundfile.SoundFile(pages, "w", form.rate, 1, "VORBIS", format="OGG")

    def write(self, samples: Samples) -> None:
        self._encoder.write(samples)

    def end(self) -> None:
        self._encoder.close()

    def close(self) -> None:
        import soundfile

        with contextlib.suppress(soundfile.SoundFileError):  # the file is discarded anyway
            self._encoder.close()


def _chapters(label: Label) -> list[Any]:
    from fractions import Fraction

    unit = Fraction(1, 1000)  # mp3 counts milliseconds
    return [
        {
            "id": number,
            "start": round(mark.first * 1000 / SAMPLE_RATE),
            "end": round(mark.last * 1000 / SAMPLE_RATE),
            "time_base": unit,
            "metadata": {"title": mark.title},
        }
        for number, mark in enumerate(label.chapters)
    ]


def _chapter_comments(label: Label) -> dict[str, str]:
    """Chapters as Vorbis comments: CHAPTER001=00:00:00.000, CHAPTER001NAME=..."""
    comments: dict[str, str] = {}
    for number, mark in enumerate(label.chapters, 1):
        seconds, milliseconds = divmod(round(mark.first * 1000 / SAMPLE_RATE), 1000)
        time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"
        comments |= {f"CHAPTER{number:03}": time, f"CHAPTER{number:03}NAME": mark.title}
    return comments
