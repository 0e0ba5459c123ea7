"""Words in other scripts: what no voice reads is left out and told, what is read stays, and signs are no words."""

from __future__ import annotations

import pytest

from kokoro_common.text import foreign
from kokoro_common.text.edits import spelled
from kokoro_common.text.foreign import foreign_words


@pytest.fixture(autouse=True)
def _no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_EXTRAS", {lang: (*row[:2], ("no_such",)) for lang, row in foreign._EXTRAS.items()})
    foreign.installed.cache_clear()


def heard(text: str, lang: str = "a", *, espeak: bool = False, plain: bool = False) -> tuple[str, list[str]]:
    found = list(foreign_words(text, lang, espeak=espeak, plain=plain))
    edits = sorted(edit for words in found for edit in words.edits)
    return " ".join(spelled(text, edits)[0].split()), list(dict.fromkeys(words.line for words in found))


@pytest.mark.parametrize("espeak", [False, True])
@pytest.mark.parametrize(
    ("text", "left", "said"),
    [
        ("Say Привет мир now.", "Say now.", "words in Cyrillic letters are left out"),
        ("Say Ελληνικά now.", "Say now.", "words in Greek letters are left out"),
        ("Say שלום now.", "Say now.", "words in Hebrew letters are left out"),
        ("Say مَرْحَبًا now.", "Say now.", "words in Arabic letters are left out"),
        ("Say สวัสดี now.", "Say now.", "words in Thai letters are left out"),
        ("Say 안녕하세요 now.", "Say 안녕하세요 now.", "words in Korean are read"),
        ("Say გამარჯობა now.", "Say გამარჯობა now.", "words in Georgian are read"),
        ("Say தமிழ் now.", "Say தமிழ் now.", "words in Tamil are read"),
    ],
)
def test_a_script_is_left_out_or_read_and_told(text: str, left: str, said: str, espeak: bool) -> None:
    now, (line,) = heard(text, espeak=espeak)
    assert now == left and line.startswith(said)


@pytest.mark.parametrize(
    "text", ["α + β = Δt, 5 µm, Ω", "naïve Ångström ﬁne ∂x ℝ ｆｕｌｌ 𝐛𝐨𝐥𝐝", "नमस्ते", "½ № ™ 😀 → ♥", "x₂ ª º ʰ"]
)
def test_signs_and_languages_of_ours_are_no_foreign_words(text: str) -> None:
    assert heard(text) == (" ".join(text.split()), [])


def test_kanji_and_hanzi_are_never_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard("Go to 東京 now.") == ("Go to now.", ["words in Chinese are left out: the extra zh reads them"])
    assert heard("Go 漢字を now.") == ("Go now.", ["words in Japanese are left out: the extra ja reads them"])
    chinese = ["characters without kana are read as Chinese"]  # by espeak-ng's Mandarin
    assert heard("Go to 東京 now.", espeak=True) == ("Go to 東京 now.", chinese)
    now, (line,) = heard("Go 漢字を now.", espeak=True)
    assert now == "Go を now." and "kanji are left out" in line and "extra ja" in line
    assert heard("東京です。", "j", espeak=True)[0] == "です。"
    assert heard("東京です。", "j") == ("東京です。", [])  # without its extra the language is an error
    assert (
        heard("Go to 東京 now.", plain=True)[0] == heard("Go to 東京 now.", plain=True, espeak=True)[0] == "Go to now."
    )
    monkeypatch.setattr(foreign, "_EXTRAS", {lang: (*row[:2], ("json",)) for lang, row in foreign._EXTRAS.items()})
    foreign.installed.cache_clear()
    assert heard("Go to 東京 now.") == ("Go to 東京 now.", [])


def test_half_width_letters_are_of_their_own_script() -> None:
    assert heard("Go ﾃｽﾄ now.") == ("Go now.", ["words in Japanese are left out: the extra ja reads them"])
    assert heard("Go ﾃｽﾄ now.", espeak=True) == ("Go ﾃｽﾄ now.", [])
    assert heard("ｽﾞｰﾑ", "j") == ("ｽﾞｰﾑ", [])
    now, (line,) = heard("Say ﾡﾢ now.")
    assert now == "Say ﾡﾢ now." and line.startswith("words in Korean are read")


def test_a_front_end_that_knows_no_other_script_gets_none() -> None:
    assert heard("你好 안녕", "z") == ("你好", ["words in Korean are left out: no voice speaks it"])
