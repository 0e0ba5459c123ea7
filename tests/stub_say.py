"""say.py whose servers, when it has to start them, are those of the stub engine."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import say
from kokoro_common import client

client.MODEL_PROGRAM = str(Path(__file__).parent / "stub_model_server.py")

if __name__ == "__main__":
    say.command()
