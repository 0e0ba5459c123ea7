"""The file that kokoro.KModel loads: the names and shapes of a Kokoro's weights, checked and read. torch only.

A checkpoint is a dict of five state dicts. What a configuration says of their shapes is here, as kokoro's modules and
transformers' ALBERT have them; the numbers that no configuration holds stand in kokoro's code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    Shape = tuple[int, ...]

HARMONICS = 9  # the fundamental and 8 overtones
ALBERT_LAYER = "bert.encoder.albert_layer_groups.0.albert_layers.0"  # one, done as often as the configuration says
SOURCE_LINEAR = "decoder.generator.m_source.l_linear"
LSTM_WEIGHTS = [
    f"{kind}_l0{direction}"
    for direction in ("", "_reverse")
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
]


def read_weights(path: str, config: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    """What the forward needs, float32, weight norm folded, by part and name, as in "decoder.encode.conv1.weight".

    On the CPU what has not been folded stays a view of the file. What the forward does not need is left alone, as
    upstream does. Raises ValueError with the names of weights that are missing, misshapen or not finite.
    """
    given = {**_fold(_map(path)), **_map(path)}  # mapped twice: the pages that were folded leave memory at once
    weights: dict[str, Tensor] = {}
    faults = []
    for name, shape in _shapes(config).items():
        weight = given.pop(name, None)
        if weight is None:
            faults.append(f"{name} is missing")
        elif weight.shape != shape:
            faults.append(f"{name} has the shape {tuple(weight.shape)} instead of {shape}")
        elif not math.isfinite(weight.abs().max()):
            faults.append(f"{name} is not finite")
        else:
            weights[name] = weight.float().to(device)
    # kokoro gives its instance norms weights for an exporter; no training has changed them.
    norms = [name for name in given if name.endswith((".norm.weight", ".norm.bias"))]
    faults += [f"{name} is not neutral" for name in norms if not (given[name] == name.endswith("weight")).all()]
    if faults:
        raise ValueError(f"{len(faults)} weights missing or wrong: {'; '.join(faults[:5])}")
    return weights


def _fold(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights that weight norm keeps as lengths and directions. The same to the last bit as kokoro's own."""
    weights = {}
    for name in [name.removesuffix("_v") for name in given if name.endswith(".weight_v")]:
        direction, length = given[f"{name}_v"], given.get(f"{name}_g")
        if length is not None and length.shape == (len(direction), *(1 for _ in direction.shape[1:])):
            weights[name] = torch._weight_norm(direction.float(), length.float(), 0)
    return weights


def _map(path: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by part and name. torch maps the file: nothing is read yet."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(checkpoint, dict) or not all(isinstance(part, dict) for part in checkpoint.values()):
        raise ValueError("not a dict of state dicts")
    return {
        f"{part}.{name.removeprefix('module.')}": weight
        for part, weights in checkpoint.items()
        for name, weight in weights.items()
        if isinstance(weight, Tensor)
    }


def _shapes(config: dict[str, Any]) -> dict[str, Shape]:
    """Shapes of the weights that the forward needs, weight norm folded. Raises ValueError for a wrong configuration."""
    try:
        return {**_albert_shapes(config), **_prosody_shapes(config), **_decoder_shapes(config)}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a configuration of Kokoro: {error!r}") from error


def _layer(name: str, *shape: int, outputs: int = 0) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": (outputs or shape[0],)}


def _albert_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    width, inner = config["plbert"]["hidden_size"], config["plbert"]["intermediate_size"]
    narrow = config["plbert"].get("embedding_size", 128)
    embeddings = "bert.embeddings"
    shapes: dict[str, Shape] = {
        f"{embeddings}.word_embeddings.weight": (config["n_token"], narrow),
        f"{embeddings}.position_embeddings.weight": (config["plbert"]["max_position_embeddings"], narrow),
        f"{embeddings}.token_type_embeddings.weight": (2, narrow),
        **_layer(f"{embeddings}.LayerNorm", narrow),
        **_layer("bert.encoder.embedding_hidden_mapping_in", width, narrow),
        **_layer(f"{ALBERT_LAYER}.ffn", inner, width),
        **_layer(f"{ALBERT_LAYER}.ffn_output", width, inner),
        **_layer("bert_encoder", config["hidden_dim"], width),
    }
    for each in ("query", "key", "value", "dense"):
        shapes |= _layer(f"{ALBERT_LAYER}.attention.{each}", width, width)
    for each in ("attention.LayerNorm", "full_layer_layer_norm"):
        shapes |= _layer(f"{ALBERT_LAYER}.{each}", width)
    return shapes


def _prosody_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    hidden, style, kernel = config["hidden_dim"], config["style_dim"], config["text_encoder_kernel_size"]
    shapes: dict[str, Shape] = {
        "text_encoder.embedding.weight": (config["n_token"], hidden),
        **_lstm_shapes("text_encoder.lstm", hidden, hidden),
        **_lstm_shapes("predictor.lstm", hidden + style, hidden),
        **_lstm_shapes("predictor.shared", hidden + style, hidden),
        **_layer("predictor.duration_proj.linear_layer", config["max_dur"], hidden),
    }
    for i in range(config["n_layer"]):
        shapes |= _layer(f"text_encoder.cnn.{i}.0", hidden, hidden, kernel)
        shapes |= {f"text_encoder.cnn.{i}.1.gamma": (hidden,), f"text_encoder.cnn.{i}.1.beta": (hidden,)}
        shapes |= _lstm_shapes(f"predictor.text_encoder.lstms.{2 * i}", hidden + style, hidden)
        shapes |= _layer(f"predictor.text_encoder.lstms.{2 * i + 1}.fc", 2 * hidden, style)
    for kind in ("F0", "N"):
        shapes |= _residual_shapes(f"predictor.{kind}.0", hidden, hidden, style)
        shapes |= _residual_shapes(f"predictor.{kind}.1", hidden, hidden // 2, style, doubles=True)
        shapes |= _residual_shapes(f"predictor.{kind}.2", hidden // 2, hidden // 2, style)
        shapes |= _layer(f"predictor.{kind}_proj", 1, hidden // 2, 1)
    return shapes


def _decoder_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    """The numbers that are not in the configuration stand in kokoro's code."""
    style, generator = config["style_dim"], config["istftnet"]
    rates, channels = generator["upsample_rates"], generator["upsample_initial_channel"]
    bins = generator["gen_istft_n_fft"] + 2
    shapes: dict[str, Shape] = {
        **_layer("decoder.F0_conv", 1, 1, 3),
        **_layer("decoder.N_conv", 1, 1, 3),
        **_layer("decoder.asr_res.0", 64, 512, 1),
        **_residual_shapes("decoder.encode", config["hidden_dim"] + 2, 1024, style),
        **_layer(SOURCE_LINEAR, 1, HARMONICS),
    }
    for i in range(4):
        shapes |= _residual_shapes(f"decoder.decode.{i}", 1024 + 2 + 64, 512 if i == 3 else 1024, style, doubles=i == 3)
    sizes = generator["resblock_kernel_sizes"]
    for i, kernel in enumerate(generator["upsample_kernel_sizes"]):
        half, last = channels // 2, i + 1 == len(rates)
        stride = math.prod(rates[i + 1 :])
        shapes |= _layer(f"decoder.generator.ups.{i}", channels, half, kernel, outputs=half)
        shapes |= _layer(f"decoder.generator.noise_convs.{i}", half, bins, 1 if last else 2 * stride)
        shapes |= _resblock_shapes(f"decoder.generator.noise_res.{i}", half, 11 if last else 7, style)
        for j, size in enumerate(sizes):
            shapes |= _resblock_shapes(f"decoder.generator.resblocks.{i * len(sizes) + j}", half, size, style)
        channels = half
    return shapes | _layer("decoder.generator.conv_post", bins, channels, 7)


def _lstm_shapes(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    """In both directions."""
    shapes = {"weight_ih": (2 * outputs, inputs), "weight_hh": (2 * outputs, outputs // 2)}
    return {f"{name}.{each}": shapes.get(each.partition("_l0")[0], (2 * outputs,)) for each in LSTM_WEIGHTS}


def _residual_shapes(name: str, inputs: int, outputs: int, style: int, doubles: bool = False) -> dict[str, Shape]:
    return {
        **_layer(f"{name}.norm1.fc", 2 * inputs, style),
        **_layer(f"{name}.norm2.fc", 2 * outputs, style),
        **_layer(f"{name}.conv1", outputs, inputs, 3),
        **_layer(f"{name}.conv2", outputs, outputs, 3),
        **({f"{name}.conv1x1.weight": (outputs, inputs, 1)} if inputs != outputs else {}),
        **(_layer(f"{name}.pool", inputs, 1, 3) if doubles else {}),
    }


def _resblock_shapes(name: str, channels: int, kernel: int, style: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for half in (1, 2):
        for j in range(3):
            shapes |= _layer(f"{name}.convs{half}.{j}", channels, channels, kernel)
            shapes |= _layer(f"{name}.adain{half}.{j}.fc", 2 * channels, style)
            shapes[f"{name}.alpha{half}.{j}"] = (1, channels, 1)
    return shapes
