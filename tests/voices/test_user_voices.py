"""A user's own voices: blends with a name and imported packs; nothing that could be a path, nothing unpickled."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from kokoro_common.errors import ModelUnavailable, UnknownVoice, UsageError
from kokoro_common.voices.catalogue import listing, parse_voice
from kokoro_common.voices.user_voices import add_pack, own_voices, read_own_pack, save_blend


def pack_file(path: Path, *, shape: tuple[int, ...] = (510, 1, 256), value: float = 0.5) -> str:
    torch.save(torch.full(shape, value), path)
    return str(path)


def test_a_blend_with_a_name_is_its_parts(tmp_path: Path) -> None:
    save_blend(str(tmp_path), "af_mine", parse_voice("af_bella:0.7,am_adam:0.3"))
    own = own_voices(str(tmp_path))
    assert own == {"af_mine": "af_bella:0.7,am_adam:0.3"}
    assert parse_voice("af_mine", own) == parse_voice("af_bella:0.7,am_adam:0.3")
    assert parse_voice("af_mine:0.5,bf_emma:0.5", own).name == "af_bella:0.35,am_adam:0.15,bf_emma:0.5"
    assert "af_mine" in listing(own).splitlines()[-1]
    with pytest.raises(UnknownVoice):
        parse_voice("af_mine")


def test_an_imported_pack_is_read_back_and_its_damage_found(tmp_path: Path) -> None:
    config = str(tmp_path / "config")
    add_pack(config, "am_carl", pack_file(tmp_path / "carl.pt"))
    assert own_voices(config) == {"am_carl": ""}
    assert parse_voice("am_carl", own_voices(config)).name == "am_carl"
    pack = read_own_pack(config, "am_carl")
    assert pack is not None and pack.shape == (510, 1, 256) and np.all(pack == 0.5)
    path = tmp_path / "config" / "voices" / "am_carl.pack"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelUnavailable, match="damaged"):
        read_own_pack(config, "am_carl")
    assert read_own_pack(config, "am_none") is None
    assert read_own_pack(config, "../am_carl") is None


@pytest.mark.parametrize(
    "name", ["", "af_", "af_heart", "xx_mine", "AF_mine", "af_../x", "a/f_mine", "af_mine.pack", "zq_a"]
)
def test_a_name_has_the_catalogues_form_and_is_not_in_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        add_pack(str(tmp_path), name, pack_file(tmp_path / "voice.pt"))
    with pytest.raises(UsageError):
        save_blend(str(tmp_path), name, parse_voice("af_bella"))
    assert not (tmp_path / "voices").exists()


def test_the_name_says_the_language_of_the_blend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="begin it with a"):
        save_blend(str(tmp_path), "bf_mine", parse_voice("af_bella"))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_only_a_voice_pack_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"a": Bomb()}, tmp_path / "bomb2.pt")
    bad = [
        "missing.pt",
        "bomb.pt",
        "bomb2.pt",
        pack_file(tmp_path / "shape.pt", shape=(511, 1, 256)),
        pack_file(tmp_path / "nan.pt", value=float("nan")),
        pack_file(tmp_path / "zero.pt", value=0.0),
    ]
    for file in bad:
        with pytest.raises(UsageError):
            add_pack(str(tmp_path), "am_carl", file)
    assert not (tmp_path / "exploded").exists() and own_voices(str(tmp_path)) == {}


def test_foreign_files_are_no_voices(tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    for name in ("af_heart.pack", "notes.txt", "af_x.pack.tmp", ".af_y.blend", "af_z.blend.123.abc"):
        (voices / name).write_text("x")
    (voices / "af_bad.blend").write_text("nonsense" * 100)
    assert set(own_voices(str(tmp_path))) == {"af_bad"}
    with pytest.raises(UnknownVoice):
        parse_voice("af_bad", own_voices(str(tmp_path)))
    assert own_voices(str(tmp_path / "none")) == {}


def test_nothing_is_replaced_without_a_word(tmp_path: Path) -> None:
    config = str(tmp_path / "config")
    assert save_blend(config, "af_mine", parse_voice("af_bella:0.7,am_adam:0.3")) == ""
    assert save_blend(config, "af_mine", parse_voice("af_bella:0.7,am_adam:0.3")) == ""  # it is the same
    assert save_blend(config, "af_mine", parse_voice("af_sky,af_bella")) == "af_bella:0.7,am_adam:0.3"
    assert not add_pack(config, "am_carl", pack_file(tmp_path / "carl.pt"))
    assert not add_pack(config, "am_carl", pack_file(tmp_path / "carl.pt"))
    assert add_pack(config, "am_carl", pack_file(tmp_path / "other.pt", value=0.25))


def test_a_voice_of_one_kind_never_takes_the_place_of_the_other(tmp_path: Path) -> None:
    config = str(tmp_path / "config")
    add_pack(config, "am_carl", pack_file(tmp_path / "carl.pt"))
    save_blend(config, "af_mine", parse_voice("af_bella,af_sky"))
    before = {path: path.read_bytes() for path in (tmp_path / "config" / "voices").iterdir()}
    with pytest.raises(UsageError, match="am_carl is an imported voice of yours; choose another name, or remove /"):
        save_blend(config, "am_carl", parse_voice("am_adam,af_sky"))
    with pytest.raises(UsageError, match="af_mine is a blend of yours"):
        add_pack(config, "af_mine", pack_file(tmp_path / "carl.pt"))
    assert {path: path.read_bytes() for path in (tmp_path / "config" / "voices").iterdir()} == before
