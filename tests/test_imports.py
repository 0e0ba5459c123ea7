"""The structure, held by tests: imports point downward, heavy modules stay in the rooms that own them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"record"},
    {
        "checkpoint",
        "errors",
        "settings",
        "audio",
        "protocol",
        "tagger",
        "status",
        "isolation",
        "edits",
        "markup",
        "scripts",
        "outfile",
        "ogg",
        "chapters",
    },
    {"network", "kernel", "paths", "connection", "voices", "voicepack", "hub", "text", "espeak", "espeak_g2p"}
    | {"playback", "process", "reading", "ssml", "writer", "journal", "loudness", "webpage", "pdf"},
    {"daemon", "logs", "scheduler", "engine", "floor", "lexicon", "own_voices", "mouth", "g2p", "captions", "epub"},
    {"client", "tuning", "utterance", "rendering", "documents"},
    {"place"},
    {"loader"},
    {"synthesis", "follower", "link", "doctor"},
]
OWNERS = {
    "torch": {"engine", "checkpoint", "network", "kernel"},
    "kokoro": set(),
    "transformers": set(),
    "misaki": {"g2p"},
    "spacy": {"g2p"},
    "phonemizer": {"g2p", "espeak_g2p"},
    "sounddevice": {"playback"},
    "huggingface_hub": {"hub"},
    "soundfile": {"writer"},
    "av": {"writer"},
    "lxml": {"webpage", "epub"},
    "pypdfium2": {"pdf"},
    "soxr": {"audio"},
    "espeakng_loader": {"espeak", "espeak_g2p"},
    "msgspec": {"protocol"},
    "num2words": {"reading"},
}
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ROOMS = sorted((ROOT / "kokoro_common").glob("[a-z]*.py"))


def imported(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("kokoro_common.")} & LEVEL.keys()


def test_every_room_has_a_layer() -> None:
    assert {path.stem for path in ROOMS} == set(LEVEL)


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.stem)
def test_imports_point_downward(path: Path) -> None:
    upward = {room for room in rooms_of(imported(path)) if LEVEL[room] >= LEVEL[path.stem]}
    allowed = {"errors"} if LEVEL[path.stem] == 1 else set()  # what layer 0 raises
    assert upward - allowed - {path.stem} == set()


@pytest.mark.parametrize("path", [*ROOMS, *ROOT.glob("*.py")], ids=lambda path: path.stem)
def test_heavy_modules_stay_with_their_owner(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    assert {top for top in tops if path.stem not in OWNERS.get(top, {path.stem})} == set()


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import say; say.main(['--version'])", "numpy torch sounddevice huggingface_hub msgspec socket"),
        ("import kokoro_common.client", "numpy torch sounddevice huggingface_hub msgspec typing subprocess"),
        ("import voice_server", "torch misaki kokoro huggingface_hub soundfile psutil"),
        ("import model_server", "numpy torch misaki kokoro spacy huggingface_hub sounddevice psutil"),
    ],
)  # fmt: skip
def test_a_fresh_interpreter_imports_nothing_heavy(code: str, forbidden: str) -> None:
    script = f"{code}; import sys; print('LOADED', *[m for m in {forbidden.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
