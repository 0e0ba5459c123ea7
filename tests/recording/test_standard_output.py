"""WAV on the standard output: in a file its header says how long it is, and what others wrote there is untouched."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent.parent
WRITE = """
import os, sys, numpy as np
from kokoro_common.recording.encoders import AudioWriter
from kokoro_common.recording.formats import Form
frames, bits, meddle = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
writer = AudioWriter("-", Form(bits=bits))
writer.write(np.zeros(frames, np.float32))
if meddle:
    os.write(1, b"meddled")
writer.commit()
"""


def written(output: io.BufferedWriter | int, frames: int, bits: int = 16, meddle: str = "") -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(frames), str(bits), meddle], cwd=ROOT, stdout=output, check=True
    )
    return done.stdout or b""


def stream(frames: int, bits: int = 16) -> bytes:
    return written(subprocess.PIPE, frames, bits)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.binary(max_size=20), frames=st.integers(0, 30_000), bits=st.sampled_from([16, 24, 32]))
def test_a_file_on_stdout_gets_its_length_wherever_it_begins(
    tmp_path: Path, before: bytes, frames: int, bits: int
) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        file.write(before)
        file.flush()
        written(file, frames, bits)
        os.write(file.fileno(), b"after")  # as (say.py -o - ...; echo) > file
    data = path.read_bytes()
    assert data.startswith(before)
    assert data.endswith(b"after")
    wav = data[len(before) : -len(b"after")]
    assert wav[44:] == stream(frames, bits)[44:]
    if len(wav) % 2 == 0:
        assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
        assert int.from_bytes(wav[40:44], "little") == len(wav) - 44
        assert len(soundfile.read(io.BytesIO(wav))[0]) == frames


@pytest.mark.parametrize("how", ["a pipe", ">>", "another writer"])
def test_where_one_cannot_go_back_the_stream_is_as_it_was(how: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"RIFF before" * 10)
    expected = stream(1000)
    assert expected[4:8] == b"\xff\xff\xff\xff"
    if how == ">>":
        with path.open("ab") as file:
            written(file, 1000)
        assert path.read_bytes() == b"RIFF before" * 10 + expected
    elif how == "another writer":
        with path.open("wb") as file:
            written(file, 1000, meddle="yes")
        assert path.read_bytes() == expected + b"meddled"
