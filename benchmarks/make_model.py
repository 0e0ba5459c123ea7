"""Makes the benchmarks' Kokoro once: random weights, the real dimensions, 327 MB. Run from the repository root:

    python -m benchmarks.make_model [--output DIR] [--toy]

Random weights cost what the real ones cost, and speak noise of lifelike lengths. They are put where the hub's client
looks, so the programs find them without network; only KOKORO_MANIFEST has to name the manifest that this writes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from kokoro_common.settings import resolve
from tests.helpers.toy_kokoro import REAL_CONFIG, TOY_CONFIG, make_toy_kokoro


def make_model(cache: Path, seed: int, *, toy: bool = False) -> Path:
    """Places the files below `cache` and returns the manifest's path. Blocks for some 20 s, with `toy` for 5 s."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        made = Path(directory) / "made"
        made.mkdir()
        manifest = make_toy_kokoro(made, seed, config=TOY_CONFIG if toy else REAL_CONFIG)
        repository = f"models--{manifest['repo'].replace('/', '--')}"
        snapshot = cache / "hub" / repository / "snapshots" / manifest["revision"]
        if not snapshot.exists():
            snapshot.parent.mkdir(parents=True, exist_ok=True)
            made.rename(snapshot)
    return snapshot / "manifest.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a Kokoro of the real dimensions with random weights.")
    parser.add_argument("--output", metavar="DIR", help="a cache directory; default: that of the programs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toy", action="store_true", help="as small as can be: to try a benchmark, not to measure")
    options = parser.parse_args()
    default = Path(resolve().cache_dir)
    cache = Path(options.output).absolute() if options.output else default
    manifest = make_model(cache, options.seed, toy=options.toy)
    print(f"The model is in {manifest.parent}. To use it:")
    print(f"export KOKORO_MANIFEST={manifest}")
    if cache != default:
        print(f"export KOKORO_CACHE_DIR={cache}")


if __name__ == "__main__":
    main()
