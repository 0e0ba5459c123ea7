"""Programs and libraries that people play files with, to read back what was written."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.helpers.requirements import program


def tool(name: str) -> str:
    """Debian's own, which shares no library with what has written the files."""
    return program(name, "ffmpeg")


def ffmpeg(*arguments: str) -> bytes:
    command = [tool("ffmpeg"), "-nostdin", "-v", "error", *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe sees: format with tags, streams, chapters."""
    command = [
        tool("ffprobe"),
        "-v",
        "error",
        "-of",
        "json",
        "-show_format",
        "-show_streams",
        "-show_chapters",
        str(path),
    ]
    report: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return report


def loudness(path: Path) -> float:
    """Integrated, in LUFS, by ffmpeg's meter; at 48 kHz, where its filters are exact."""
    command = [tool("ffmpeg"), "-nostdin", "-i", str(path), "-af", "aresample=48000,ebur128", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return float(re.findall(r"I:\s+(-?[\d.]+) LUFS", said)[-1])
