"""A world whose hub serves the toy Kokoro: real huggingface_hub, real KModel, real forward."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import World
from tests.helpers.local_hub import LocalHub
from tests.helpers.toy_kokoro import CONFIG, MODEL, ToyKokoro


def hub_of(directory: Path, manifest: dict[str, object]) -> LocalHub:
    """A hub, not yet entered, that serves what make_toy_kokoro or make_broken_kokoro left in a directory."""
    names = [CONFIG, MODEL, *(path.relative_to(directory).as_posix() for path in directory.glob("voices/*.pt"))]
    return LocalHub(
        {name: directory / name for name in names}, repo=str(manifest["repo"]), revision=str(manifest["revision"])
    )


def connect_to_hub(world: World, hub: LocalHub, toy: ToyKokoro | None = None) -> None:
    """From now on the world's servers start with this hub and its manifest."""
    manifest = hub.manifest(MODEL, CONFIG) if toy is None else toy.manifest
    path = world.path / "manifest.json"
    path.write_text(json.dumps(manifest))
    world.environment |= {
        "KOKORO_MANIFEST": str(path),
        "KOKORO_ENGINE": "auto",
        "KOKORO_PRECISION": "fp32",  # auto would measure first
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(world.path / "huggingface"),
        "NO_PROXY": "127.0.0.1",
    }
    world.environment.pop("KOKORO_OFFLINE", None)
