"""Grapheme to phoneme: the same phonemes as misaki's own front ends, nothing lost, and no text that breaks it."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_common.errors import ModelUnavailable, UsageError
from kokoro_common.g2p import ESPEAK_LANGUAGES, G2P, split_phonemes

ENGLISH = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of misaki, spaCy and torch, when they are imported
LIMIT = 510  # phonemes, the model's
WORDS = {
    "a": "the river carries small boats past old houses where people read and sleep",
    "e": "el río lleva barcos pequeños junto a casas viejas donde la gente lee y duerme",
    "f": "la rivière porte des petits bateaux devant les vieilles maisons où les gens lisent",
    "h": "नदी छोटी नावों को पुराने घरों के पास ले जाती है जहाँ लोग पढ़ते हैं",
    "i": "il fiume porta piccole barche davanti alle vecchie case dove la gente legge",
    "p": "o rio leva barcos pequenos diante das casas velhas onde as pessoas leem",
}
MONSTERS = {
    "one word of 100,000 letters": "x" * 100_000,
    "digits": "7" * 3000,
    "decimals": "3.5" * 500,
    "commas": "1," * 1000,
    "signs": "$%&" * 300,
    "emoji": "😀👍🏽" * 100,
    "punctuation": "!?." * 500,
    "brackets": "( [ " * 300,
    "hyphens": "ab-" * 130,
    "right to left": "\u202eabc\u202c \u0627\u0644\u0639 " * 30,
    "surrogates and NUL": "a\ud800b\x00c",
    "combining": "e" + "\u0301" * 300,
    "markup with an impossible stress": "[a](" + "1" * 5000 + ")",
}


@pytest.fixture(scope="module")
def g2p(tmp_path_factory: pytest.TempPathFactory) -> Iterator[G2P]:
    yield G2P(None, str(tmp_path_factory.mktemp("g2p")))


def joined(pieces: list[str]) -> str:
    return "".join("".join(pieces).split())


@given(st.text(alphabet="aɪˈː .,!?;:—…”)\n\t", max_size=400), st.integers(1, 60))
def test_splitting_loses_nothing_and_keeps_the_limit(phonemes: str, limit: int) -> None:
    pieces = split_phonemes(phonemes, limit)
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert joined(pieces) == joined([phonemes])


def test_a_cut_prefers_a_sentence_then_a_clause_then_a_blank() -> None:
    assert split_phonemes("aaaa bb. cc, dd ee", 14) == ["aaaa bb.", "cc, dd ee"]
    assert split_phonemes("aaaa bb, cc dd ee", 14) == ["aaaa bb,", "cc dd ee"]
    assert split_phonemes("a. aaa bbbb ccc dd", 14) == ["a. aaa bbbb", "ccc dd"]  # no scrap of a piece for a full stop
    assert split_phonemes("aaaaa bbb.” cccccc", 12) == ["aaaaa bbb.”", "cccccc"]
    assert split_phonemes(" \n", 5) == []


def test_a_cut_inside_a_word_is_logged_without_the_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kokoro.g2p"):
        assert split_phonemes("ab" * 4, 3) == ["aba", "bab", "ab"]
    assert "cut" in caplog.text
    assert "aba" not in caplog.text


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        split_phonemes("a", 0)


@pytest.mark.parametrize("lang", [pytest.param("a", marks=[pytest.mark.model, ENGLISH]), *ESPEAK_LANGUAGES])
def test_600_words_without_punctuation_are_all_there(g2p: G2P, lang: str) -> None:
    chooser = random.Random(5)
    words = [chooser.choice(WORDS[lang].split()) for _ in range(600)]
    # Words sound otherwise beside others (liaison, stress), so the pieces are compared with the same whole ...
    phonemes = g2p.phonemes(" ".join(words), lang)
    pieces = split_phonemes(phonemes, LIMIT)
    assert joined(pieces) == joined([phonemes])
    assert max(len(piece) for piece in pieces) <= LIMIT
    # ... and the whole with its chunks by number of spoken words: none is dropped at a border.
    parts = " ".join(g2p.phonemes(" ".join(words[i : i + 60]), lang) for i in range(0, 600, 60))
    assert abs(len(phonemes.split()) - len(parts.split())) <= 9  # a clitic may join its neighbour across each border
    assert len(phonemes.split()) > 450


@pytest.mark.parametrize(("lang", "code"), ESPEAK_LANGUAGES.items())
def test_espeak_languages_equal_misaki(g2p: G2P, lang: str, code: str) -> None:
    from misaki import espeak

    for text in (WORDS[lang], f"«{WORDS[lang]}», (2024)! ¿{WORDS[lang]}?"):
        assert g2p.phonemes(text, lang) == espeak.EspeakG2P(code)(text)[0]


def test_espeak_languages_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, kokoro_common.g2p as g\n"
        "assert not {'misaki', 'spacy', 'phonemizer', 'torch'} & sys.modules.keys()\n"
        f"print(g.G2P(None, {str(tmp_path)!r}).phonemes('hola', 'e'))\n"
        "assert not {'misaki.en', 'spacy', 'torch', 'kokoro'} & sys.modules.keys()\n"
    )
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("ˈola\n", "", 0)


def test_copies_of_the_espeak_library_go_to_the_given_directory(tmp_path: Path) -> None:
    elsewhere = tempfile.gettempdir()
    before = set(os.listdir(elsewhere))
    g2p = G2P(None, str(tmp_path))
    assert g2p.phonemes("hola", "e")
    assert list(tmp_path.glob("*/libespeak-ng*"))
    assert tempfile.gettempdir() == elsewhere
    assert not [name for name in set(os.listdir(elsewhere)) - before if list(Path(elsewhere, name).glob("libespeak*"))]


def test_an_unknown_language_is_a_usage_error(g2p: G2P) -> None:
    with pytest.raises(UsageError, match="no language 'x'; choose"):
        g2p.phonemes("hello", "x")


@pytest.mark.parametrize(("lang", "module", "extra"), [("j", "fugashi", "ja"), ("z", "jieba", "zh")])
def test_a_language_without_its_extra_names_the_extra(
    g2p: G2P, lang: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelUnavailable, match=rf"needs the extra {extra}; run pip install 'kokoro-say\[{extra}\]'"):
        g2p.phonemes("你好", lang)


def test_mandarin_keeps_its_cache_in_the_given_directory(tmp_path: Path) -> None:
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    assert G2P(None, str(tmp_path)).phonemes("你好，世界！", "z") == "ni↓xau↓, ʂɨ↘ʨje↘!"
    assert (tmp_path / "jieba.cache").exists()


def test_japanese_speaks_with_the_small_dictionary(tmp_path: Path) -> None:
    pytest.importorskip("unidic_lite", reason="the extra ja is not installed")
    assert G2P(None, str(tmp_path)).phonemes("こんにちは、世界！", "j") == "koɲɲiʨiβa, sekai!"


@pytest.mark.parametrize("lang", [pytest.param("a", marks=[pytest.mark.model, ENGLISH]), "e", "h"])
@pytest.mark.parametrize("name", MONSTERS)
def test_no_text_is_too_much(g2p: G2P, lang: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    phonemes = g2p.phonemes(MONSTERS[name], lang)
    assert all(len(piece) <= LIMIT for piece in split_phonemes(phonemes, LIMIT))
    if name in ("one word of 100,000 letters", "digits", "surrogates and NUL"):
        assert len(phonemes) >= len(MONSTERS[name]) / 2
    assert capfd.readouterr() == ("", "")


def test_control_characters_do_not_end_the_text(g2p: G2P) -> None:
    assert g2p.phonemes("uno\x00dos\ud800", "e") == g2p.phonemes("uno dos", "e")


def test_blank_text_has_no_phonemes(g2p: G2P) -> None:
    assert g2p.phonemes(" \n\t\x00\u200b", "e") == ""


def test_a_word_that_crashes_misaki_is_left_out_alone(g2p: G2P, caplog: pytest.LogCaptureFixture) -> None:
    def fragile(text: str) -> str:
        if "crash" in text:
            raise IndexError(text)
        return text.upper() + "❓"

    g2p._backends["test"] = fragile
    assert g2p.phonemes("one two crash three", "test") == "ONE TWO THREE"
    assert "1 letters" not in caplog.text
    assert "a word of 5 letters is left out: IndexError" in caplog.text
    assert "unknown" in caplog.text
    assert "crash" not in caplog.text


@pytest.mark.model
@ENGLISH
class TestEnglish:
    @pytest.mark.parametrize(
        ("text", "phonemes"),
        [
            ("It costs $3.50.", "ˌɪt kˈɔsts θɹˈi dˈɑləɹz ænd fˈɪfti sˈɛnts."),
            ("£1,200.50 and €3 million", "wˈʌn θˈWzᵊnd tˈu hˈʌndɹəd pˈWndz ænd fˈɪfti pˈɛns ænd θɹˈi mˈɪljᵊn jˈʊɹOz"),
            ("May 5th, 1990.", "mˈA fˈɪfθ, nˌIntˈin nˈIndi."),
            ("3/4/2024", "θɹˈi fˈɔɹ twˈɛnti twˈɛnti fˈɔɹ"),
            ("50% at 5 AM", "fˈɪfti pəɹsˈɛnt æt fˈIv ˌAˈɛm"),
            ("Yes, no; well: (so) — “really”?", "jˈɛs, nˈO; wˈɛl: (sˌO) — “ɹˈiᵊli”?"),
            ("They live near a live show.", "ðˌA lˈɪv nˌɪɹ ɐ lˈIv ʃˈO."),
        ],
    )
    def test_money_numbers_dates_and_punctuation_are_heard(self, g2p: G2P, text: str, phonemes: str) -> None:
        assert g2p.phonemes(text, "a") == phonemes

    def test_british_and_american_are_apart(self, g2p: G2P) -> None:
        assert g2p.phonemes("a hot bath", "a") == "ɐ hˈɑt bˈæθ"
        assert g2p.phonemes("a hot bath", "b") == "ɐ hˈɒt bˈɑːθ"

    def test_unknown_words_are_spoken_through_espeak(self, g2p: G2P) -> None:
        assert g2p.phonemes("blorptastic", "a").count("b") == 1
        assert "❓" not in g2p.phonemes("blorptastic 你好 😀", "a")

    def test_the_built_in_tagger_is_named_and_nothing_is_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import spacy

        def forbidden(*_: object) -> None:
            raise AssertionError("tried to download")

        monkeypatch.setattr(spacy.cli, "download", forbidden)
        g2p = G2P(None, str(tmp_path))
        assert g2p.quality == {}
        g2p.warm("a")
        assert g2p.quality == {"en": "built-in tagger"}

    def test_a_spacy_model_is_loaded_by_its_path(self, tmp_path: Path) -> None:
        import spacy
        from spacy.training import Example

        nlp = spacy.blank("en", meta={"name": "toy", "version": "1.2.3"})
        nlp.add_pipe("tagger")
        example = Example.from_dict(nlp.make_doc("live"), {"tags": ["VB"]})
        nlp.initialize(lambda: [example])
        nlp.to_disk(tmp_path / "model")
        g2p = G2P(str(tmp_path / "model"), str(tmp_path))
        assert g2p.phonemes("live", "a") == "lˈɪv"  # this model knows no tag but VB
        assert g2p.quality == {"en": "spacy en_toy 1.2.3"}

    @pytest.mark.parametrize("content", [None, "", "[nlp]\nlang = 5\n"])
    def test_a_broken_spacy_model_means_the_built_in_tagger(
        self, tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = tmp_path / "model"
        if content is not None:
            model.mkdir()
            (model / "config.cfg").write_text(content)
            (model / "meta.json").write_text("{}")
        g2p = G2P(str(model), str(tmp_path))
        assert g2p.phonemes("a live show", "a") == "ɐ lˈIv ʃˈO"
        assert g2p.quality == {"en": "built-in tagger"}
        assert "cannot be loaded" in caplog.text

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.one_of(
            st.text(max_size=40),
            st.text(alphabet="0123456789.,-'$£%sS’a []()/#½Ⅻé😀", max_size=25),
        )
    )
    def test_odd_text_does_not_raise(self, g2p: G2P, text: str) -> None:
        assert "❓" not in g2p.phonemes(text, "a")
