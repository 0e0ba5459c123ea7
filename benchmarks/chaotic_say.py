"""say.py for chaos.py: the servers that it starts are those of chaotic_servers.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import say
from kokoro_common.daemon import model_server

model_server.MODEL_PROGRAM = str(Path(__file__).parent / "chaotic_servers.py")

if __name__ == "__main__":
    say.command()
