"""What is made from packages appears whole or not at all, and is what was pinned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.packages import NotToBeHad, appearing, check


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "model"
    with pytest.raises(RuntimeError), appearing(folder) as made:
        (made / "half").write_text("x")
        raise RuntimeError
    assert not folder.exists()
    (tmp_path / "cache" / ".model-killed").mkdir()  # what a run leaves that is killed
    for content in ("first", "second"):
        with appearing(folder) as made:
            (made / "file").write_text(content)
    assert (folder / "file").read_text() == "second"
    assert list(folder.parent.iterdir()) == [folder]


def test_another_content_than_was_pinned_is_refused() -> None:
    with pytest.raises(NotToBeHad, match="the voices"):
        check(b"other", "0" * 64, "the voices")


def test_the_real_model_is_whole_only_with_all_its_files(tmp_path: Path) -> None:
    import hashlib
    import json

    from benchmarks.real_model import MANIFEST, is_whole

    revision = "1" * 40
    snapshot = tmp_path / "hub" / "models--local--x" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "w").write_bytes(b"weights")
    files = {"w": hashlib.sha256(b"weights").hexdigest()}
    manifest = {"repo": "local/x", "revision": revision, "model": "w", "config": "w", "files": files, "spacy": None}
    assert not is_whole(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert is_whole(tmp_path)
    (snapshot / "w").write_bytes(b"weightS")
    assert not is_whole(tmp_path)


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/decoder/decoder/asr_res/asr_res.0/Conv_quant", "decoder.asr_res.0"),
        ("/encoder/text_encoder/cnn.0/cnn.0.0/Conv_quant", "text_encoder.cnn.0.0"),
        ("/encoder/F0.1/conv1x1/Conv_quant", "predictor.F0.1.conv1x1"),
        ("/encoder/shared/LSTM_quant", "predictor.shared"),
        ("/encoder/bert_encoder/MatMul_quant", "bert_encoder"),
        ("/decoder/decoder/generator/resblocks.4/adain2.2/fc/Gemm_MatMul_quant",
         "decoder.generator.resblocks.4.adain2.2.fc"),
    ],
)  # fmt: skip
def test_a_node_of_the_export_tells_its_module(node: str, module: str) -> None:
    from benchmarks.dequantized import module_of

    assert module_of(node) == module


def test_a_weight_of_weight_norm_without_a_direction_gets_one() -> None:
    from benchmarks.dequantized import _parted

    weight = np.array([[3, 4], [0, 0]], np.float32)
    lengths, directions = _parted(weight, "weight_g"), _parted(weight, "weight_v")
    assert lengths is not None
    assert directions is not None
    assert lengths.tolist() == [[5], [0]]
    assert directions.tolist() == [[3, 4], [1, 1]]
