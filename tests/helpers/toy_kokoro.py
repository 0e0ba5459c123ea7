"""A toy Kokoro: a checkpoint with random weights in the real file layout, which the real kokoro.KModel loads and runs.

The decoder's 1,024, 512 and 128 channels stand in kokoro's code, so a toy still has 56 million parameters. They are
views into one pool of random numbers, and torch.save writes a pool once: 14 MB. Made of a seed, without network, in a
second once kokoro is imported; `benchmarks/make_model.py` makes the real dimensions with the same code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Before anything imports torch: where tests run side by side, threads that spin take minutes from one another.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

MODEL = "kokoro-v1_0.pth"
CONFIG = "config.json"
VOICES = ("af_heart", "af_bella", "am_adam", "bf_emma", "ef_dora", "ff_siwis", "hf_alpha", "if_sara", "pf_dora")

# Kokoro-82M's vocabulary: the symbols in the order of their ids, 0 to 177; a middle dot is an id that has none.
_SYMBOLS = (
    '·;:,.!?··—…"()“” \u0303ʣʥʦʨᵝ\uab67AI·····O·Q·ST··W·Yᵊabcdef·hijklmnopqrstuvwxyzɑɐɒæ··βɔɕç·ɖðʤə·ɚɛɜ··'
    "ɟ·ɡ······ɥ·ɨɪʝ······ɯɰŋɳɲɴø·ɸθœ··ɹ·ɾɻ·ʁɽʂʃʈʧ·ʊʋ·ʌɣɤ·χʎ···ʒʔ·······ˈˌː···ʰ·ʲ····↓·→↗↘···ᵻ"
)
VOCABULARY = {symbol: number for number, symbol in enumerate(_SYMBOLS) if symbol != "·"}

_COMMON = {
    "dim_in": 64,
    "dropout": 0.2,
    "hidden_dim": 512,
    "max_conv_dim": 512,
    "max_dur": 50,
    "multispeaker": True,
    "n_mels": 80,
    "n_token": 178,
    "style_dim": 128,
    "vocab": VOCABULARY,
}
REAL_CONFIG: dict[str, Any] = {
    **_COMMON,
    "n_layer": 3,
    "text_encoder_kernel_size": 5,
    "plbert": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 2048,
        "max_position_embeddings": 512,
        "num_hidden_layers": 12,
        "dropout": 0.1,
    },
    "istftnet": {
        "upsample_rates": [10, 6],
        "upsample_kernel_sizes": [20, 12],
        "upsample_initial_channel": 512,
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "gen_istft_n_fft": 20,
        "gen_istft_hop_size": 5,
    },
}
# The same kind of network, as small as kokoro's code lets it be; its generator works at a fifth of the real frame rate.
TOY_CONFIG: dict[str, Any] = {
    **_COMMON,
    "n_layer": 1,
    "text_encoder_kernel_size": 1,
    "plbert": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "num_hidden_layers": 1,
        "dropout": 0.1,
    },
    "istftnet": {
        "upsample_rates": [6, 2],
        "upsample_kernel_sizes": [12, 4],
        "upsample_initial_channel": 512,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
        "gen_istft_n_fft": 100,
        "gen_istft_hop_size": 25,
    },
}


class ToyKokoro:
    """Where the session's toy lies. Read-only: copy what a test wants to break, or use `make_broken_kokoro`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest_path = directory / "manifest.json"
        self.manifest: dict[str, Any] = json.loads(self.manifest_path.read_text("utf-8"))
        self.config_path = directory / CONFIG
        self.weights_path = directory / MODEL

    def voice_path(self, voice: str) -> Path:
        return self.directory / "voices" / f"{voice}.pt"


@pytest.fixture(scope="session")
def toy_kokoro() -> Iterator[ToyKokoro]:
    """The toy, made once per user and version of this file."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    cache = Path(tempfile.gettempdir()) / f"kokoro-toy-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        pytest.fail(f"{cache} belongs to someone else")
    if not (cache / key).exists():
        building = Path(tempfile.mkdtemp(dir=cache))
        make_toy_kokoro(building)
        try:
            building.rename(cache / key)
        except OSError:  # another run was faster
            shutil.rmtree(building)
    yield ToyKokoro(cache / key)


# What the toy has one of, or of size one, by more than one: else a mistake in counting would not be seen.
VARIED_CONFIG = {
    **TOY_CONFIG,
    "n_layer": 2,
    "text_encoder_kernel_size": 5,
    "plbert": {**TOY_CONFIG["plbert"], "num_attention_heads": 2, "num_hidden_layers": 2},
    "istftnet": {
        **TOY_CONFIG["istftnet"],
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3, 5], [2, 1, 4]],
    },
}


@pytest.fixture(scope="session")
def varied_kokoro(tmp_path_factory: pytest.TempPathFactory) -> ToyKokoro:
    """A toy of VARIED_CONFIG. Its norms and snakes are not neutral."""
    import torch

    directory = tmp_path_factory.mktemp("varied")
    make_toy_kokoro(directory, voices=["af_bella"], config=VARIED_CONFIG)
    files = ToyKokoro(directory)
    parts = torch.load(files.weights_path, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for weights in parts.values():
        for name, weight in weights.items():
            if bool((weight == 1).all()):
                weights[name] = torch.rand(weight.shape, generator=generator) + 0.5
    torch.save(parts, files.weights_path)
    return files


def make_toy_kokoro(
    directory: str | os.PathLike[str],
    seed: int = 0,
    voices: Iterable[str] = VOICES,
    config: dict[str, Any] = TOY_CONFIG,
) -> dict[str, Any]:
    """Writes config, weights, voices and manifest.json into an existing directory and returns the manifest.

    With REAL_CONFIG the weights get storages of their own: 82 million parameters, 327 MB, as the real file has.
    """
    import torch

    root = Path(directory)
    (root / CONFIG).write_text(json.dumps(config, ensure_ascii=False), "utf-8")
    torch.save(_random_checkpoint(config, seed, own_storages=config is REAL_CONFIG), root / MODEL)
    (root / "voices").mkdir()
    for voice in voices:
        generator = torch.Generator().manual_seed(seed + zlib.crc32(voice.encode()))
        pack = torch.randn(510, 1, 256, generator=generator) * 0.17  # the standard deviation of the real af_bella
        torch.save(pack, root / "voices" / f"{voice}.pt")
    return write_manifest(root)


def write_manifest(root: Path) -> dict[str, Any]:
    """manifest.json for the files that lie there, with their true digests."""
    files = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([root / CONFIG, root / MODEL, *root.glob("voices/*.pt")])
    }
    manifest = {
        "repo": "toy/Kokoro",
        "revision": hashlib.sha1(json.dumps(files).encode()).hexdigest(),
        "model": MODEL,
        "config": CONFIG,
        "files": files,
        "spacy": None,
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")
    return manifest


def make_broken_kokoro(directory: str | os.PathLike[str], toy: ToyKokoro, damage: str) -> dict[str, Any]:
    """A copy of the toy whose weights do not fill the model, with digests that are right. Returns its manifest.

    damage: "empty" state dicts, "renamed" keys, one tensor "misshapen" among keys without prefix, "part missing",
    "key missing", one number "not finite". KModel takes all of them without a word.
    """
    import torch

    root = Path(directory)
    shutil.copytree(toy.directory, root, dirs_exist_ok=True)
    parts = torch.load(toy.weights_path, weights_only=True)
    predictor = parts["predictor"]
    if damage == "empty":
        parts = {part: {} for part in parts}
    elif damage == "renamed":
        parts["decoder"] = {f"weights.{name}": tensor for name, tensor in parts["decoder"].items()}
    elif damage == "misshapen":
        parts["predictor"] = {name.removeprefix("module."): tensor for name, tensor in predictor.items()}
        parts["predictor"]["F0_proj.weight"] = predictor["module.F0_proj.weight"][:, :-1]
    elif damage == "part missing":
        del parts["text_encoder"]
    elif damage == "key missing":
        del predictor["module.N_proj.bias"]
    elif damage == "not finite":
        predictor["module.F0_proj.bias"] = torch.full((1,), math.nan)
    else:
        raise ValueError(damage)
    torch.save(parts, root / MODEL)
    return write_manifest(root)


def _random_checkpoint(config: dict[str, Any], seed: int, own_storages: bool) -> dict[str, dict[str, Any]]:
    """The five state dicts, as the real file has them: keys with `module.` before them, no terms of InstanceNorm."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    parts = _parts_without_weights(config)
    shapes = [tensor.shape for module in parts.values() for tensor in module.state_dict().values()]
    pool = torch.rand(max(math.prod(shape) for shape in shapes) + 65_536, generator=generator) / 8 - 1 / 16

    def weights(name: str, shape: torch.Size) -> torch.Tensor:
        if name == "duration_proj.linear_layer.bias":
            return torch.full(shape, -3.5)  # a sum of 50 sigmoids: about 3 per phoneme, and not always the same
        if name == "duration_proj.linear_layer.weight":
            return torch.rand(shape, generator=generator) - 0.5
        if name == "F0_proj.bias":
            return torch.full(shape, 150.0)  # Hz: voiced
        if name.endswith(".weight_g"):
            return torch.full(shape, 0.5)  # weight_norm: the norm of each channel's weights
        if "alpha" in name or name.endswith(".gamma") or (name.endswith(".weight") and len(shape) == 1):
            return torch.ones(shape)  # snake and the layer norms
        offset = int(torch.randint(len(pool) - shape.numel(), (1,), generator=generator))
        view = pool[offset : offset + shape.numel()].view(shape)
        return view.clone() if own_storages else view

    return {
        part: {
            f"module.{name}": weights(name, tensor.shape)
            for name, tensor in module.state_dict().items()
            if not name.endswith((".norm.weight", ".norm.bias"))
        }
        for part, module in parts.items()
    }


def _parts_without_weights(config: dict[str, Any]) -> dict[str, Any]:
    """kokoro's own five modules on the meta device: names and shapes of what a checkpoint holds."""
    import torch
    from kokoro import KModel

    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings(action="ignore"), torch.device("meta"):
        nothing = Path(directory) / "empty.pth"
        torch.save({}, nothing)
        return dict(KModel(repo_id="toy/Kokoro", config=config, model=str(nothing)).named_children())
