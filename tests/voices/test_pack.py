"""The packs are written by the real torch.save; what is read must be what torch.load would have read."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.errors import ModelUnavailable
from kokoro_common.voices.pack import PACK_SHAPE, blend, read_voice_pack, style_row


@pytest.fixture(scope="module")
def torch():
    import torch  # here, so that collecting the tests does not cost its import

    return torch


@pytest.fixture(scope="module")
def pack_path(torch, tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "af_test.pt"
    torch.save(torch.randn(PACK_SHAPE, generator=torch.Generator().manual_seed(1)), path)
    return path


def rewritten(source, target, replace=None, compression=zipfile.ZIP_STORED):
    """A copy of a pack with some records replaced, None to leave one out."""
    replace = replace or {}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            record = name.partition("/")[2]
            content = replace.get(record, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def refusal(path):
    with pytest.raises(ModelUnavailable) as caught:
        read_voice_pack(path)
    assert caught.value.exit_code == 4
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equals_torch_load(torch, pack_path):
    pack = read_voice_pack(pack_path)
    assert pack.shape == PACK_SHAPE and pack.dtype == np.float32
    assert np.array_equal(pack, torch.load(pack_path, weights_only=True).numpy())


def test_a_pack_from_another_pickler_is_read(torch, pack_path, tmp_path):
    with zipfile.ZipFile(pack_path) as archive:
        slim = pickletools.optimize(archive.read("af_test/data.pkl"))
    path = rewritten(pack_path, tmp_path / "slim.pt", {"data.pkl": slim, "byteorder": None})
    assert np.array_equal(read_voice_pack(path), read_voice_pack(pack_path))
    assert torch.equal(torch.load(path, weights_only=True), torch.from_numpy(read_voice_pack(pack_path).copy()))


def test_a_malicious_pickle_does_not_run(pack_path, tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(canary)!r}, 'w').close()",)

    payload = pickle.dumps(Attack(), protocol=2)
    refusal(rewritten(pack_path, tmp_path / "a.pt", {"data.pkl": payload}))
    bare = tmp_path / "b.pt"
    bare.write_bytes(payload)
    refusal(bare)
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()  # the payload was a live one


@pytest.mark.parametrize(
    "thing",
    [
        "torch.zeros(511, 1, 256)",
        "torch.zeros(510, 256)",
        "torch.zeros(256, 1, 510).transpose(0, 2)",  # the right shape and size, the numbers in another order
        "torch.zeros(510, 1, 256, dtype=torch.int32)",
        "torch.zeros(510, 1, 256, dtype=torch.float64)",
        "torch.zeros(1).expand(510, 1, 256)",
        "{'pack': torch.zeros(510, 1, 256)}",
        "'text'",
    ],
)
def test_anything_but_a_pack_is_refused(thing, torch, tmp_path):
    path = tmp_path / "voice.pt"
    torch.save(eval(thing), path)
    refusal(path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(number, torch, tmp_path):
    pack = torch.zeros(PACK_SHAPE)
    pack[509, 0, 255] = number
    torch.save(pack, tmp_path / "voice.pt")
    assert "not finite" in refusal(tmp_path / "voice.pt")


def test_the_legacy_format_is_refused(torch, tmp_path):
    torch.save(torch.zeros(PACK_SHAPE), tmp_path / "voice.pt", _use_new_zipfile_serialization=False)
    refusal(tmp_path / "voice.pt")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x05\x06" + bytes(18), bytes(2 << 20)])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "voice.pt"
    path.write_bytes(content)
    refusal(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    refusal(tmp_path / "nowhere.pt")


def test_a_zip_bomb_is_refused_by_its_size(pack_path, tmp_path):
    path = rewritten(pack_path, tmp_path / "a.pt", {"data/0": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "larger than" in refusal(path)
    refusal(rewritten(pack_path, tmp_path / "b.pt", {"data.pkl": bytes(5000)}))


def test_big_endian_numbers_are_refused(pack_path, tmp_path):
    assert "big-endian" in refusal(rewritten(pack_path, tmp_path / "a.pt", {"byteorder": b"big"}))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_harmless(pack_path, data):
    """A flipped bit or a cut never gives another voice, and never any other exception."""
    content = bytearray(pack_path.read_bytes())
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(content) - 1) | st.integers(1, 700) | st.integers(-900, -1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    damaged = pack_path.with_name("damaged.pt")
    damaged.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pack = read_voice_pack(damaged)
        except ModelUnavailable:
            return
    assert np.array_equal(pack, read_voice_pack(pack_path))


def test_the_style_of_a_phrase_is_the_row_of_its_length(pack_path):
    pack = read_voice_pack(pack_path)
    assert style_row(pack, 1).shape == (1, 256)
    assert np.array_equal(style_row(pack, 1), pack[0])
    assert np.array_equal(style_row(pack, 510), pack[509])
    for length in (0, -1, 511):
        with pytest.raises(ValueError):
            style_row(pack, length)


def test_a_blend_is_the_weighted_sum(pack_path):
    pack = read_voice_pack(pack_path)
    other = np.ones(PACK_SHAPE, np.float32)
    assert np.array_equal(blend([pack], [1.0]), pack)
    assert blend([pack, other], [0.7, 0.3]).dtype == np.float32
    assert np.allclose(blend([pack, other], [0.7, 0.3]), 0.7 * pack + 0.3)
    rows = [style_row(pack, 7), style_row(other, 7)]
    assert np.array_equal(blend(rows, [0.7, 0.3]), style_row(blend([pack, other], [0.7, 0.3]), 7))
    with pytest.raises(ValueError):
        blend([pack, other], [1.0])


def test_reading_needs_no_torch(pack_path):
    program = (
        f"import sys\nfrom kokoro_common.voices.pack import read_voice_pack\nread_voice_pack({str(pack_path)!r})\n"
    )
    subprocess.run([sys.executable, "-c", program + "assert 'torch' not in sys.modules"], check=True)
