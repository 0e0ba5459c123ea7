"""The weights of Kokoro's int8 export as a checkpoint of the layout that kokoro.KModel loads.

kokoro-onnx's int8 graph keeps the name of each module in the name of the node that does its work, and the weights as
`NAME_quantized` with `NAME_scale` and `NAME_zero_point` (onnxruntime's dynamic quantization). So the graph is walked,
each node with weights tells whose they are, and a checkpoint takes what kokoro's own modules ask for. Rounded to 8 bits
the weights behave, and sound nearly, like the real ones.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    State = dict[str, Array]  # weights by their names in the checkpoint, "decoder.encode.conv1.weight_v"

_WORKING = {"Conv", "ConvTranspose", "ConvInteger", "MatMul", "MatMulInteger", "DynamicQuantizeLSTM"}
_ENCODER_PARTS = ("bert", "bert_encoder", "predictor", "text_encoder")
_GATES_OF_TORCH = (0, 2, 3, 1)  # ONNX keeps an LSTM's gates as input, output, forget, cell; torch as input, forget, ...


class Export:
    """The graph's weights, by the names that kokoro's modules have for them."""

    def __init__(self, path: str | Path) -> None:
        """Reads 92 MB. Raises ImportError without onnx, which the extra `bench` brings."""
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(path)).graph
        self._stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.weights: State = {}
        for name, stored in self._stored.items():
            if name.startswith(("encoder.", "decoder.")) and stored.dtype == np.float32:
                self.weights[_of_module(name)] = stored
        rows = {}  # outputs of nodes that take rows of a table, an embedding's, and the table
        for node in graph.node:
            if node.op_type in _WORKING:
                self._add(node.op_type, node.name, list(node.input))
            elif node.op_type == "Gather":
                rows[node.output[0]] = node.input[0]
            elif node.op_type == "DequantizeLinear" and node.input[0] in rows:
                table = rows[node.input[0]]
                self.weights[_of_module(table.removesuffix("_quantized"))] = self._float(
                    table, node.input[2], node.input[1]
                )

    def _add(self, operation: str, node: str, inputs: list[str]) -> None:
        module = module_of(node)
        if operation == "DynamicQuantizeLSTM":
            self._add_lstm(module, inputs)
        elif inputs[1] in self._stored:
            weight = self._float(inputs[1], *inputs[3:])  # of an integer operation the fourth is the zero point
            self.weights[f"{module}.weight"] = weight.T if operation.startswith("MatMul") else weight

    def _add_lstm(self, module: str, inputs: list[str]) -> None:
        """Two directions; ONNX has (direction, inputs, gates) and both biases in a row."""
        onto, back = self._float(inputs[1], inputs[9], inputs[8]), self._float(inputs[2], inputs[11], inputs[10])
        biases = self._stored[inputs[3]]
        for direction, suffix in enumerate(("_l0", "_l0_reverse")):
            self.weights |= {
                f"{module}.weight_ih{suffix}": _in_torch_order(onto[direction].T),
                f"{module}.weight_hh{suffix}": _in_torch_order(back[direction].T),
            }
            for kind, bias in zip(("ih", "hh"), np.split(biases[direction], 2), strict=True):
                self.weights[f"{module}.bias_{kind}{suffix}"] = _in_torch_order(bias)

    def _float(self, name: str, zero_name: str = "", scale_name: str = "") -> Array:
        """A stored weight, or what one of 8 bits stands for. Equal zero points are stored once, under one name."""
        stored = self._stored[name]
        if stored.dtype == np.float32:
            return np.asarray(stored, np.float32)
        scale = self._stored[scale_name or f"{name.removesuffix('_quantized')}_scale"].astype(np.float64)
        zero = self._stored[zero_name].astype(np.float64)
        if scale_name:  # of an LSTM's directions, or of a whole embedding
            scale, zero = (each.reshape(-1, *(1 for _ in stored.shape[1:])) for each in (scale, zero))
        return ((stored.astype(np.float64) - zero) * scale).astype(np.float32)


def module_of(node: str) -> str:
    """The module that a node works for: "/decoder/decoder/asr_res/asr_res.0/Conv_quant" is decoder.asr_res.0."""
    path: list[str] = []
    for step in node.strip("/").split("/")[:-1]:
        if path and step.startswith(f"{path[-1]}."):  # a part of a list stands below the list, with its name again
            path.pop()
        path.append(step)
    return _of_module(".".join(path))


def _of_module(name: str) -> str:
    """Without what the export has wrapped around the five parts of a KModel."""
    outer, _, inner = name.partition(".")
    if (
        outer == "encoder"
        and not inner.startswith(tuple(f"{part}." for part in _ENCODER_PARTS))
        and (inner not in _ENCODER_PARTS)
    ):
        return f"predictor.{inner}"  # the pitch and energy heads are called by the wrapper itself
    return inner


def _in_torch_order(gates: Array) -> Array:
    parts = np.split(gates, 4)
    return np.concatenate([parts[each] for each in _GATES_OF_TORCH])


def state_of(export: Export, config: dict[str, Any]) -> dict[str, State]:
    """What kokoro's modules load, by part. Raises ValueError that names weights which the export lacks or misshapes."""
    parts: dict[str, State] = {}
    faults = []
    for part, shapes in expected(config).items():
        parts[part] = {}
        for name, shape in shapes.items():
            weight = _weight(export.weights, f"{part}.{name}", shape)
            if weight is None or weight.shape != shape:
                faults.append(f"{part}.{name}: {None if weight is None else weight.shape} instead of {shape}")
            else:
                # Named as in the real file; its own memory, for torch takes no other.
                parts[part][f"module.{name}"] = np.require(weight, np.float32, ["C", "W", "O"])
    if faults:
        raise ValueError(f"{len(faults)} weights are not in the export: {'; '.join(faults[:5])}")
    return parts


def _weight(weights: State, name: str, shape: tuple[int, ...]) -> Array | None:
    stem, _, kind = name.rpartition(".")
    if kind in ("weight_g", "weight_v"):
        return _parted(weights.get(f"{stem}.weight"), kind)
    if name.startswith("bert.pooler."):
        return np.zeros(shape, np.float32)  # Kokoro never uses it, so it is not in the export
    return weights.get(name)


def _parted(weight: Array | None, kind: str) -> Array | None:
    """Lengths (weight_g) or directions (weight_v) of a weight under weight norm."""
    if weight is None:
        return None
    squares = (weight.astype(np.float64) ** 2).sum(axis=tuple(range(1, weight.ndim)), keepdims=True)
    lengths = np.sqrt(squares).astype(np.float32)
    # A channel that was rounded to nothing has no direction, and kokoro would divide 0 by 0: any one does.
    return lengths if kind == "weight_g" else np.where(lengths == 0, np.float32(1), weight)


def expected(config: dict[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of a KModel's weights by part, but for those of its instance norms, which are neutral."""
    import torch
    from kokoro import KModel

    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # of deprecated ways, kokoro's
        nothing = str(Path(directory) / "nothing.pth")
        torch.save({}, nothing)
        parts = KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=nothing).named_children()
    return {
        part: {
            name: tuple(weight.shape)
            for name, weight in module.state_dict().items()
            if not name.endswith((".norm.weight", ".norm.bias", "position_ids"))
        }
        for part, module in parts
    }


def digest_of(parts: dict[str, State]) -> str:
    """SHA-256 over names and numbers, whatever the file format of the day is."""
    sha256 = hashlib.sha256()
    for part, state in sorted(parts.items()):
        for name, weight in sorted(state.items()):
            sha256.update(json.dumps([part, name, weight.shape]).encode())
            sha256.update(weight.astype("<f4").tobytes())
    return sha256.hexdigest()


def write_checkpoint(parts: dict[str, State], path: Path) -> None:
    import torch

    torch.save(
        {part: {name: torch.from_numpy(each) for name, each in state.items()} for part, state in parts.items()}, path
    )
