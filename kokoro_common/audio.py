"""Audio as numbers and as files: the sample rate, 16-bit conversion, resampling, writing while the audio arrives.

Samples are mono, float32, shape (frames,), nominally -1.0 to 1.0. The only room that knows soundfile and soxr; both,
and numpy, are imported when first needed, so that importing this room costs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

from kokoro_common.errors import OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SAMPLE_RATE = 24_000  # Hz, Kokoro's

_ENCODED = {  # extension: libsndfile's format and subtype
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FORMATS = ("wav", "raw", *_ENCODED)  # by extension; wav and raw are 16-bit little-endian and written without libsndfile

_STANDARD_OUTPUT = ("-", "/dev/stdout")
_UNKNOWN_LENGTH = 0xFFFF_FFFF  # bytes; what a WAV header says of a stream, and the most it can say


def to_pcm16(samples: Samples) -> NDArray[np.int16]:
    """int16 (frames,): clipped to -1.0..1.0, times 32,767, rounded to nearest, ties to even. NaN is a ValueError.

    The only conversion in the project: a wav file and the sound device get the same integers.
    """
    import numpy as np

    scaled = np.rint(np.clip(samples, -1.0, 1.0) * np.float32(32_767))
    if np.isnan(scaled).any():
        raise ValueError("samples hold NaN")
    pcm: NDArray[np.int16] = scaled.astype(np.int16)
    return pcm


class Resampler:
    """Streaming soxr (HQ): what comes out of all `feed()` calls and one `flush()` does not depend on how it was cut."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def feed(self, samples: Samples) -> Samples:
        """float32 (frames,) at the target rate; lags behind its input by soxr's filter, so it may be empty."""
        resampled: Samples = self._stream.resample_chunk(samples)
        return resampled

    def flush(self) -> Samples:
        """The rest, float32 (frames,). The next `feed()` begins a new signal."""
        import numpy as np

        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream.clear()
        return rest


class AudioWriter:
    """Writes a file at SAMPLE_RATE while its audio arrives. For one thread.

        with AudioWriter("out.ogg") as writer:  # leaving the block commits; an exception discards
            writer.write(samples)

    The format follows the extension (FORMATS); "-" is WAV on the standard output. Until `commit()` the audio is in a
    hidden temporary file beside the final one, which is replaced in one step. What is not a regular file (a pipe,
    /dev/null) is written directly, as wav or raw. Opening a fifo waits for its reader.

    Raises UsageError for an extension it does not know, OutputError for everything that cannot be opened or written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._format = _format_of(path)
        try:
            descriptor, self._temporary, self._final = _open_output(path)
        except OSError as error:
            raise _output_error(path, error) from error
        self._output = _Output(descriptor)
        self._encoder: Any = None
        self._pcm_bytes = 0
        try:
            self._begin()
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

    @property
    def encoded(self) -> bool:
        """Whether libsndfile writes it: its callbacks swallow an exception that a signal handler raises in them."""
        return self._encoder is not None

    def write(self, samples: Samples) -> None:
        """Appends float32 (frames,). Blocks on the disk or on the pipe's reader."""
        with self._kept_error():
            if self._encoder is None:
                pcm = to_pcm16(samples).astype("<i2", copy=False).tobytes()
                self._pcm_bytes += len(pcm)
                self._output.write(pcm)
                return
            data = to_pcm16(samples) if self._format == "flac" else samples
            # libsndfile 1.2.2 puts what it is given on the stack for Vorbis: 120 s in one call crash the process.
            for start in range(0, len(data), SAMPLE_RATE):
                self._encoder.write(data[start : start + SAMPLE_RATE])

    def commit(self) -> None:
        """Completes the file, waits until it is on the disk, puts it under its final name. Discards if that fails."""
        try:
            self._end()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leaves nothing behind; what stood under the final name is untouched. Does nothing after `commit()`."""
        if self._encoder is not None:
            import soundfile

            with contextlib.suppress(soundfile.SoundFileError):
                self._encoder.close()
            self._encoder = None
        with contextlib.suppress(OSError):  # of a write that the system had put off
            self._output.close()
        if self._temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = ""

    def _begin(self) -> None:
        if self._format in _ENCODED and not self._temporary:
            raise UsageError(f"{self._path} is not a regular file", "only wav and raw can be written there")
        with self._kept_error():
            if self._format == "wav":
                self._output.write(_wav_header(_UNKNOWN_LENGTH))
            elif self._format in _ENCODED:
                import soundfile

                kind, subtype = _ENCODED[self._format]
                self._encoder = soundfile.SoundFile(self._output, "w", SAMPLE_RATE, 1, subtype, format=kind)

    def _end(self) -> None:
        with self._kept_error():
            if self._encoder is not None:
                encoder, self._encoder = self._encoder, None
                encoder.close()
            elif self._format == "wav" and self._temporary:
                self._output.seek(0)
                self._output.write(_wav_header(self._pcm_bytes))
        try:
            if self._temporary:
                os.fsync(self._output.descriptor)
            self._output.close()
            if self._temporary:
                os.replace(self._temporary, self._final)
                self._temporary = ""
        except OSError as error:
            raise _output_error(self._path, error) from error

    @contextlib.contextmanager
    def _kept_error(self) -> Iterator[None]:
        """Raises what went wrong below libsndfile, whatever libsndfile made of it."""
        try:
            yield
        finally:
            if self._output.error is not None:
                raise _output_error(self._path, self._output.error)


class _Output:
    """What libsndfile writes to. It keeps the OSError of a failed write: ogg, opus and mp3 report none of their own."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:  # raising would not get through libsndfile
            self.error = error
        return len(data) - len(rest)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self.descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _format_of(path: str) -> str:
    if path in (*_STANDARD_OUTPUT, os.devnull):
        return "wav"
    extension = os.path.splitext(path)[1].removeprefix(".").lower()
    if extension not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path!r} has no known audio format", f"name it {known}, or - for WAV on the standard output")
    return extension


def _open_output(path: str) -> tuple[int, str, str]:
    """Descriptor to write to, temporary name, final name; both names are empty where one writes directly."""
    if path in _STANDARD_OUTPUT:
        return os.dup(1), "", ""
    mode = None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # changes nothing, and fails where writing would
    except FileNotFoundError:
        pass
    else:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return descriptor, "", ""
        os.close(descriptor)
    final = os.path.realpath(path)  # a symbolic link stays; the file it leads to is replaced
    # Not named after the final file: its name may already have the greatest length.
    temporary = os.path.join(os.path.dirname(final), f".kokoro-{os.urandom(8).hex()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    if mode is not None:
        os.fchmod(descriptor, stat.S_IMODE(mode))  # a private file stays private
    return descriptor, temporary, final


def _output_error(path: str, error: OSError) -> OutputError:
    name = "standard output" if path in _STANDARD_OUTPUT else path
    reason = (error.strerror or str(error)).lower()
    remedies = {
        errno.ENOENT: "make the folder first",
        errno.ENOSPC: "free some space or choose another folder",
        errno.EPIPE: "keep its reader running to the end",
    }
    remedy = remedies.get(error.errno or 0, "choose another file or folder")
    return OutputError(f"{name} cannot be written: {reason}", remedy)


def _wav_header(pcm_bytes: int) -> bytes:
    """44 bytes: RIFF, a `fmt ` chunk (PCM, mono, 16 bits), the head of `data`. Past 4 GiB the lengths stay unknown."""
    data = min(pcm_bytes, _UNKNOWN_LENGTH)
    riff = min(36 + pcm_bytes, _UNKNOWN_LENGTH)
    fields = (b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data", data)
    return struct.pack("<4sI4s4sIHHIIHH4sI", *fields)
