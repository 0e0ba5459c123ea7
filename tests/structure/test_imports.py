"""The structure, held by tests: imports point downward, heavy modules stay in the rooms that own them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAYERS = [
    {"record", "files", "worker"},
    {
        "engine.checkpoint",
        "errors",
        "settings",
        "sound.samples",
        "wire.messages",
        "phonemes.tagger",
        "command.status",
        "daemon.isolation",
        "text.edits",
        "text.markup",
        "text.scripts",
        "recording.outfile",
        "recording.ogg",
        "documents.document",
    },
    {
        "engine.network",
        "engine.kernel",
        "daemon.runtime_directory",
        "wire.connection",
        "voices.catalogue",
        "voices.pack",
        "hub.cache",
        "text.chunker",
        "engine.espeak",
        "phonemes.espeak_process",
    }
    | {
        "sound.player",
        "daemon.process",
        "reading.reader",
        "text.ssml",
        "recording.encoders",
        "recording.journal",
        "recording.loudness",
        "documents.html",
        "documents.pdf",
    },
    {"daemon.record"},
    {
        "daemon.starter",
        "daemon.logs",
        "synthesis.scheduler",
        "engine.engine",
        "synthesis.floor",
        "text.lexicon",
        "voices.user_voices",
        "speaking.speaker_thread",
        "phonemes.g2p",
        "recording.captions",
        "documents.epub",
    },
    {
        "client.client",
        "daemon.life",
        "daemon.model_server",
        "engine.tuning",
        "speaking.utterance",
        "recording.rendering",
        "documents.load",
    },
    {"speaking.turn"},
    {"synthesis.loader"},
    {"synthesis.synthesis", "command.follower", "speaking.link", "command.doctor"},
]
OWNERS = {
    "torch": {"engine.engine", "engine.checkpoint", "engine.network", "engine.kernel"},
    "kokoro": set(),
    "transformers": set(),
    "misaki": {"phonemes.g2p"},
    "spacy": {"phonemes.g2p"},
    "phonemizer": {"phonemes.g2p", "phonemes.espeak_process"},
    "sounddevice": {"sound.player"},
    "huggingface_hub": {"hub.cache"},
    "soundfile": {"recording.encoders"},
    "av": {"recording.encoders"},
    "lxml": {"documents.html", "documents.epub"},
    "pypdfium2": {"documents.pdf"},
    "soxr": {"sound.samples"},
    "espeakng_loader": {"engine.espeak", "phonemes.espeak_process"},
    "msgspec": {"wire.messages"},
    "num2words": {"reading.reader"},
}
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
PACKAGE = ROOT / "kokoro_common"
ROOMS = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


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
    return {name.removeprefix("kokoro_common.") for name in names} & LEVEL.keys()


def name_of(path: Path) -> str:
    inside = PACKAGE in path.parents
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts) if inside else path.stem


def test_every_room_has_a_layer() -> None:
    assert {name_of(path) for path in ROOMS} == set(LEVEL)


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    upward = {room for room in rooms_of(imported(path)) if LEVEL[room] >= LEVEL[name_of(path)]}
    allowed = {"errors"} if LEVEL[name_of(path)] == 1 else set()  # what layer 0 raises
    assert upward - allowed - {name_of(path)} == set()


@pytest.mark.parametrize("path", [*ROOMS, *ROOT.glob("*.py")], ids=name_of)
def test_heavy_modules_stay_with_their_owner(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    assert {top for top in tops if name_of(path) not in OWNERS.get(top, {name_of(path)})} == set()


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import say; say.main(['--version'])", "numpy torch sounddevice huggingface_hub msgspec socket"),
        ("import kokoro_common.client.client", "numpy torch sounddevice huggingface_hub msgspec typing subprocess"),
        ("import voice_server", "torch misaki kokoro huggingface_hub soundfile psutil"),
        ("import model_server", "numpy torch misaki kokoro spacy huggingface_hub sounddevice psutil"),
    ],
)  # fmt: skip
def test_a_fresh_interpreter_imports_nothing_heavy(code: str, forbidden: str) -> None:
    script = f"{code}; import sys; print('LOADED', *[m for m in {forbidden.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
