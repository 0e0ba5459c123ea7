"""Voice packs: read without unpickling, a style chosen by length, packs blended. numpy only.

A pack is the (510, 1, 256) float32 tensor of one voice: a style for each number of phonemes a phrase can have. Its file
is what torch.save writes: a zip with the pickled description of the tensor and, apart from it, the bare numbers.
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile

from kokoro_common.errors import ModelUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

PACK_SHAPE = (510, 1, 256)  # phonemes of the phrase, batch, style: 128 values for the decoder, 128 for prosody
_NUMBERS_BYTES = 510 * 256 * 4
_MAX_FILE_BYTES = 1 << 20  # the real ones have 523 KB
_MAX_RECORD_BYTES = 1024  # of the small records; torch.save's description has 165
_FILE_REMEDY = "remove the file, so that it is fetched again"

# The arguments in torch.save's description of one contiguous float32 tensor of PACK_SHAPE. The opcodes around them only
# call these three names, and nothing is called here.
_DESCRIPTION = [
    *(2, "torch._utils _rebuild_tensor_v2", "storage", "torch FloatStorage", "0", "cpu", 510 * 256),
    *(0, *PACK_SHAPE, 256, 256, 1, "collections OrderedDict"),
]


def read_voice_pack(path: str | os.PathLike[str]) -> FloatArray:
    """The pack in a file that torch.save wrote: (510, 1, 256), read-only. Runs nothing that the file holds.

    Raises ModelUnavailable for any other file: too large, damaged, another tensor, numbers that are not finite.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
        pack = _unpack(content)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelUnavailable(f"{os.fspath(path)} is not a voice pack: {error}", _FILE_REMEDY) from error
    return pack


def _unpack(content: bytes) -> FloatArray:
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # torch.save puts all records into one folder, named after the file.
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}

        def read(name: str, limit: int) -> bytes:
            info = records[name]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
                raise ValueError(f"its record {name} is compressed or larger than {limit} bytes")
            return archive.read(info)  # checks the CRC

        if _arguments(read("data.pkl", _MAX_RECORD_BYTES)) != _DESCRIPTION:
            raise ValueError(f"it does not describe a float32 tensor of {PACK_SHAPE}")
        if "byteorder" in records and read("byteorder", _MAX_RECORD_BYTES) != b"little":
            raise ValueError("it was written on a big-endian machine")
        numbers = read("data/0", _NUMBERS_BYTES)
    pack = np.frombuffer(numbers, "<f4").reshape(PACK_SHAPE)
    if not np.isfinite(pack).all():
        raise ValueError("it holds numbers that are not finite")
    return pack


def _arguments(pickle: bytes) -> list[object]:
    """What the opcodes of a pickle carry, without what may differ: the memo's numbering, the device it was saved on."""
    return [
        "cpu" if argument == "cuda:0" else argument
        for opcode, argument, _ in pickletools.genops(pickle)
        if argument is not None and opcode.name not in ("BINPUT", "LONG_BINPUT", "PUT")
    ]


def style_row(pack: FloatArray, phonemes_length: int) -> FloatArray:
    """The style (1, 256) for a phrase of 1 to 510 phonemes."""
    if not 1 <= phonemes_length <= len(pack):
        raise ValueError(f"no style for {phonemes_length} phonemes")
    row: FloatArray = pack[phonemes_length - 1]
    return row


def blend(packs: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """The weighted sum of packs, or of one row of each: float32 of their shape. The weights sum to 1."""
    import numpy as np

    mixture = np.zeros_like(packs[0])
    for pack, weight in zip(packs, weights, strict=True):
        mixture += pack * np.float32(weight)
    return mixture
