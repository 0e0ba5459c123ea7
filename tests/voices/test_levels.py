import math
from pathlib import Path

import pytest

from kokoro_common.errors import UsageError
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.voices.levels import COMMON_LUFS, LENGTHS, Level, catalogue_levels, common_gain, espeak_voice
from kokoro_common.voices.user_voices import own_level, save_level


def decibels(gain: float) -> float:
    return 20 * math.log10(gain)


def test_every_voice_and_every_voice_of_the_embedded_default_has_a_level() -> None:
    levels = catalogue_levels()
    espeak = {espeak_voice(lang, female=female) for lang in "abefhijpz" for female in (True, False)}
    assert set(levels) == {*VOICES, *espeak}
    for name, level in levels.items():
        assert len(level.lufs) == len(LENGTHS), name
        assert all(-40 < lufs < -10 for lufs in level.lufs) and -15 < level.peak <= 0, name


@pytest.mark.parametrize("phonemes", [1, 25, 40, 60, 119, 230, 510])
def test_the_gain_leads_to_the_common_level_at_any_length(phonemes: int) -> None:
    level = Level((-20.0, -22.0, -24.0, -26.0), -12.0)
    inside = min(max(phonemes, 25), 230)
    at = max(place for place, length in enumerate(LENGTHS[:-1]) if length <= inside)
    share = (inside - LENGTHS[at]) / (LENGTHS[at + 1] - LENGTHS[at])
    lufs = level.lufs[at] - 2 * share
    assert decibels(common_gain([(level, 1.0)], phonemes)) == pytest.approx(COMMON_LUFS - lufs)


def test_a_voice_with_high_peaks_stays_softer() -> None:
    whisper = Level((-30.0,) * 4, -4.0)
    assert decibels(common_gain([(whisper, 1.0)], 60)) == pytest.approx(3.0)


def test_a_blend_has_the_level_of_its_parts() -> None:
    loud, soft = Level((-18.0,) * 4, -8.0), Level((-26.0,) * 4, -8.0)
    assert decibels(common_gain([(loud, 0.25), (soft, 0.75)], 60)) == pytest.approx(0.0)


def test_the_level_of_an_imported_voice_is_kept_beside_it(tmp_path: Path) -> None:
    assert own_level(str(tmp_path), "af_mine") is None
    save_level(str(tmp_path), "af_mine", Level((-20.5, -21.0, -21.5, -22.0), -3.0))
    assert own_level(str(tmp_path), "af_mine") == Level((-20.5, -21.0, -21.5, -22.0), -3.0)


@pytest.mark.parametrize("content", ["", "x", "-20", "1 2 3 4 5 6", "-20 -20 -20 -20 nan", "-20 -20 -20 -20 1e9", "\0"])
def test_a_damaged_level_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "voices" / "af_mine.level"
    path.parent.mkdir()
    path.write_text(content)
    assert own_level(str(tmp_path), "af_mine") is None


def test_a_level_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "voices").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        save_level(str(tmp_path), "af_mine", Level((-20.0,) * 4, -3.0))
