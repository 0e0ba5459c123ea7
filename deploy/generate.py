"""Writes the man page and the completions that are installed with the package: python deploy/generate.py [DIRECTORY].

They are kept in the repository because an installation only copies files; a test compares them with what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import say  # noqa: F401 - registers the flags
from kokoro_common.command.completion import bash, fish, zsh
from kokoro_common.command.manual import manual

FILES = {
    "man/man1/kokoro-say.1": manual,
    "bash-completion/completions/kokoro-say": bash,
    "zsh/site-functions/_kokoro-say": zsh,
    "fish/vendor_completions.d/kokoro-say.fish": fish,
}

if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "share"
    for name, make in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(make())
