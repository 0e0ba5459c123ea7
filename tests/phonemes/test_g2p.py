"""Grapheme to phoneme: the same phonemes as misaki's own front ends, nothing lost, and no text that breaks it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_common.errors import ModelUnavailable, UsageError
from kokoro_common.phonemes import lean_imports
from kokoro_common.phonemes.g2p import ESPEAK_LANGUAGES, G2P, _speakable
from kokoro_common.phonemes.spoken import Part, Spoken
from tests.phonemes.test_spoken import joined, split_phonemes

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

ENGLISH_TEXTS = [
    "It costs $3.50, he said. Is it Monday, the 3rd of May?",
    "Blorptastic xyzzies didn't grok U.S.A.'s state-of-the-art (so-called) 'frobnication' at 5:30 p.m. — really!",
    "They live near a live show; I read what you've read: [Kokoro](/kˈOkəɹO/) by Zsófia Grzegorzewska, e.g. No. 5.",
    "gonna can't 've o'clock, Mr. O'Neill's re-reads: https://example.com/a_b?c=d 10km/h :-) 1/2 &c.",
]
# misaki with all that it brings along: its own phonemizer, in this process, and spaCy with command line and plugins.
EVERYTHING = """
import espeakng_loader, spacy, spacy.cli
from misaki import en, espeak
from kokoro_common.phonemes.tagger import tag

nlp = spacy.blank("en")
def analyse(text):
    doc = nlp(text)
    for token, its_tag in zip(doc, tag([t.text for t in doc], [bool(t.whitespace_) for t in doc])):
        token.tag_ = its_tag
    return doc

for british in (False, True):
    g2p = en.G2P.__new__(en.G2P)
    g2p.version, g2p.british, g2p.nlp, g2p.unk = None, british, analyse, ""
    g2p.lexicon, g2p.fallback = en.Lexicon(british), espeak.EspeakFallback(british)
    for text in {texts!r}:
        print(g2p(text)[0].strip())
"""


@pytest.fixture(scope="module")
def g2p(tmp_path_factory: pytest.TempPathFactory) -> Iterator[G2P]:
    yield G2P(None, str(tmp_path_factory.mktemp("g2p")))


@pytest.mark.parametrize("lang", [pytest.param("a", marks=[pytest.mark.model, ENGLISH]), *ESPEAK_LANGUAGES])
def test_600_words_without_punctuation_are_all_there(g2p: G2P, lang: str) -> None:
    chooser = random.Random(5)
    words = [chooser.choice(WORDS[lang].split()) for _ in range(600)]
    # Words sound otherwise beside others (liaison, stress), so the pieces are compared with the same whole ...
    phonemes = g2p.spoken(" ".join(words), lang).phonemes
    pieces = split_phonemes(phonemes, LIMIT)
    assert joined(pieces) == joined([phonemes])
    assert max(len(piece) for piece in pieces) <= LIMIT
    # ... and the whole with its chunks by number of spoken words: none is dropped at a border.
    parts = " ".join(g2p.spoken(" ".join(words[i : i + 60]), lang).phonemes for i in range(0, 600, 60))
    assert abs(len(phonemes.split()) - len(parts.split())) <= 9  # a clitic may join its neighbour across each border
    assert len(phonemes.split()) > 450


@pytest.mark.parametrize(("lang", "code"), ESPEAK_LANGUAGES.items())
def test_espeak_languages_equal_misaki(g2p: G2P, lang: str, code: str) -> None:
    from misaki import espeak

    for text in (WORDS[lang], f"«{WORDS[lang]}», (2024)! ¿{WORDS[lang]}?"):
        assert g2p.spoken(text, lang).phonemes == espeak.EspeakG2P(code)(text)[0]


def test_espeak_languages_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, kokoro_common.phonemes.g2p as g\n"
        "assert not {'misaki', 'spacy', 'phonemizer', 'torch'} & sys.modules.keys()\n"
        f"print(g.G2P(None, {str(tmp_path)!r}).spoken('hola', 'e').phonemes)\n"
        "assert not {'misaki.en', 'spacy', 'torch', 'kokoro'} & sys.modules.keys()\n"
    )
    run = run_fresh(code)
    assert (run.stdout, run.stderr, run.returncode) == ("ˈola\n", "", 0)


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_misaki_that_wants_more_of_phonemizer_speaks_too(
    g2p: G2P, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def not_enough(*_: ModuleType) -> Iterator[None]:
        raise ImportError("phonemizer is not a package")
        yield

    monkeypatch.setattr(lean_imports, "standing_in", not_enough)
    other = G2P(None, str(tmp_path))
    assert other.spoken("hola", "e") == g2p.spoken("hola", "e")
    assert other._espeak._worker is not None  # not in this process


def test_a_stand_in_leaves_no_trace(tmp_path: Path) -> None:
    before = {name: module for name, module in sys.modules.items() if name.startswith("phonemizer")}
    G2P(None, str(tmp_path))._misaki_espeak  # noqa: B018
    assert {name: module for name, module in sys.modules.items() if name.startswith("phonemizer")} == before


# --- Words -----------------------------------------------------------------------------------------------------------


def assert_in_order(text: str, spoken: Spoken) -> None:
    place = phoneme = 0
    for word in spoken.words:
        assert place <= word.start < word.end <= len(text)
        assert phoneme <= word.first < word.last <= len(spoken.phonemes)
        sound = spoken.phonemes[word.first : word.last]
        assert sound.strip(" .,;:!?…—“”()") == sound
        assert any(map(str.isalpha, sound))
        place, phoneme = word.end, word.last


def uncovered(text: str, spoken: Spoken) -> list[str]:
    """The runs of letters and digits that are not in one word, whole; vowel signs of Hindi are neither for Python."""
    runs = [run.span() for run in re.finditer(r"([^\W_]|[\u0900-\u0963])+", text)]
    return [text[a:b] for a, b in runs if sum(word.start <= a and b <= word.end for word in spoken.words) != 1]


def heard(text: str, spoken: Spoken) -> list[tuple[str, str]]:
    return [(text[word.start : word.end], spoken.phonemes[word.first : word.last]) for word in spoken.words]


FIGURES = ["2024", "3.50", "1,000", "50%", "(so)", "“yes”", "—", "…", "no!", "😀", "*", "\u200b", "\n", "l'a", "x-y"]


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("lang", [pytest.param("a", marks=[pytest.mark.model, ENGLISH]), *ESPEAK_LANGUAGES])
def test_every_letter_and_digit_is_in_one_word(g2p: G2P, lang: str, data: st.DataObject) -> None:
    words = st.sampled_from([*WORDS[lang].split(), *FIGURES])
    text = "".join(
        word + gap for word, gap in data.draw(st.lists(st.tuples(words, st.sampled_from([" ", "  ", ", ", ". "]))))
    )
    spoken = g2p.spoken(text, lang)
    assert_in_order(text, spoken)
    assert uncovered(text, spoken) == []


@pytest.mark.parametrize(
    ("lang", "text", "words"),
    [
        ("e", "Río: 21 €, ¿qué?", [("Río", "rˈio"), ("21", "bˌAntiˈuno"), ("€", "ˈeʊɾo"), ("qué", "kˈe")]),
        ("f", "Les enfants (à l’eau) !", [("Les", "lez"), ("enfants", "ɑ̃fˈɑ̃"), ("à", "a"), ("l’eau", "lˈo")]),
        ("f", "qu'est-ce que c'est", [("qu'est-ce que", "kɛskˌə"), ("c'est", "sˈɛ")]),  # fused by espeak
        ("h", "यह 2024 है।", [("यह", "jˌəh"), ("2024", "dˈoː hˈʌɟaːɾ cˈɔːbis"), ("है", "hɛː")]),
        ("i", "L'anno 2024 c'è", [("L'anno", "lˈanno"), ("2024", "dˈue mˈiːla ventikwˈatːro"), ("c'è", "ʧˈɛː")]),
        ("p", "em\u200b 2000,\n à casa", [("em", "ˈAŋ"), ("2000", "dˈoɪz mˈiʊ"), ("à", "ˌaː"), ("casa", "kˈazæ")]),
    ],
)  # fmt: skip
def test_words_and_their_phonemes(g2p: G2P, lang: str, text: str, words: list[tuple[str, str]]) -> None:
    assert heard(text, g2p.spoken(text, lang)) == words


def test_looking_for_words_leaves_the_phonemes_as_they_are(g2p: G2P) -> None:
    from misaki import espeak

    for lang, code in ESPEAK_LANGUAGES.items():
        plain = espeak.EspeakG2P(code)
        for text in (f"{WORDS[lang]} 2024, 3.5% (l'a)", WORDS[lang]):
            assert [g2p.spoken(text, lang).phonemes for _ in range(2)] == [plain(text)[0]] * 2


def test_words_beside_fused_ones_are_exact(g2p: G2P) -> None:
    text = "Qu'est-ce que la constitution extraordinaire de la ville et qu'est-ce que les autres disent"
    spoken = dict(heard(text, g2p.spoken(text, "f")))
    assert spoken["constitution"] == "kɔ̃stitysjˈɔ̃"
    assert spoken["les"] == "lez"
    assert spoken["ville"] == "vˈil"


def test_copies_of_the_espeak_library_go_to_the_given_directory(tmp_path: Path) -> None:
    elsewhere = tempfile.gettempdir()
    before = set(os.listdir(elsewhere))
    g2p = G2P(None, str(tmp_path))
    assert g2p.spoken("hola", "e").phonemes
    assert list(tmp_path.glob("**/libespeak-ng*"))
    assert tempfile.gettempdir() == elsewhere
    assert not [name for name in set(os.listdir(elsewhere)) - before if list(Path(elsewhere, name).glob("libespeak*"))]


def test_an_unknown_language_is_a_usage_error(g2p: G2P) -> None:
    with pytest.raises(UsageError, match="no language 'x'; choose"):
        g2p.spoken("hello", "x")


@pytest.mark.parametrize(("lang", "module", "extra"), [("j", "fugashi", "ja"), ("z", "jieba", "zh")])
def test_a_language_without_its_extra_names_the_extra(
    g2p: G2P, lang: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelUnavailable, match=f"needs the extra {extra}; run .*install"):
        g2p.spoken("你好", lang)


def test_mandarin_keeps_its_cache_in_the_given_directory(tmp_path: Path) -> None:
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    text = "你好，世界！我有3个苹果。"
    spoken = G2P(None, str(tmp_path)).spoken(text, "z")
    assert spoken.phonemes.startswith("ni↓xau↓, ʂɨ↘ʨje↘! ")
    assert_in_order(text, spoken)
    assert [word for word, _ in heard(text, spoken)] == ["你好", "世界", "我", "有", "3", "个", "苹果"]
    assert heard(text, spoken)[:2] == [("你好", "ni↓xau↓"), ("世界", "ʂɨ↘ʨje↘")]
    assert (tmp_path / "jieba.cache").exists()


def test_japanese_speaks_with_the_small_dictionary(tmp_path: Path) -> None:
    pytest.importorskip("unidic_lite", reason="the extra ja is not installed")
    text = "こんにちは、世界！「東京」は高い。"
    spoken = G2P(None, str(tmp_path)).spoken(text, "j")
    assert spoken.phonemes.startswith("koɲɲiʨiβa, sekai!")
    assert_in_order(text, spoken)
    assert [word for word, _ in heard(text, spoken)] == ["こんにちは", "世界", "東京", "は", "高い"]
    assert heard(text, spoken)[-1] == ("高い", "takai")


@pytest.mark.parametrize("lang", [pytest.param("a", marks=[pytest.mark.model, ENGLISH]), "e", "h"])
@pytest.mark.parametrize("name", MONSTERS)
def test_no_text_is_too_much(g2p: G2P, lang: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoken = g2p.spoken(MONSTERS[name], lang)
    phonemes = spoken.phonemes
    assert_in_order(MONSTERS[name], spoken)
    assert all(len(piece) <= LIMIT for piece in split_phonemes(phonemes, LIMIT))
    if name in ("one word of 100,000 letters", "digits", "surrogates and NUL"):
        assert len(phonemes) >= len(MONSTERS[name]) / 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("unit", ["1a", "'s", "a_", "aB", "É-", "a.1"])
def test_a_word_of_very_many_parts_comes_in_pieces(unit: str) -> None:
    line = _speakable(unit * 200, spaced=True)
    assert line.replace(" ", "") == unit * 200
    assert max(len(re.findall(r"[^\W\d_]+|\d+|[^\w]|_", word)) for word in line.split()) <= 24
    assert len(line.split()) < 40


@pytest.mark.parametrize(
    "word", ["https://www.example.com/a_b?c=d&e=f#g", "U.S.A.'s", "rock'n'roll-mother-in-law's", "x" * 49]
)
def test_a_word_of_ordinary_parts_stays_whole(word: str) -> None:
    assert _speakable(f"{word} {word}", spaced=True) == f"{word} {word}"


def test_control_characters_do_not_end_the_text(g2p: G2P) -> None:
    assert g2p.spoken("uno\x00dos\ud800", "e").phonemes == g2p.spoken("uno dos", "e").phonemes


def test_blank_text_has_no_phonemes(g2p: G2P) -> None:
    assert g2p.spoken(" \n\t\x00\u200b", "e").phonemes == ""


def test_a_word_that_crashes_misaki_is_left_out_alone(g2p: G2P, caplog: pytest.LogCaptureFixture) -> None:
    def fragile(text: str) -> list[Part]:
        if "crash" in text:
            raise IndexError(text)
        return [Part(text.upper() + "❓", 0, len(text))]

    g2p._front_ends["test"] = fragile
    text = " one  two crash three"
    spoken = g2p.spoken(text, "test")
    assert spoken.phonemes == "ONE TWO THREE"
    assert [text[word.start : word.end] for word in spoken.words] == ["one  two", "three"]
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
        assert g2p.spoken(text, "a").phonemes == phonemes

    def test_words_are_misakis_tokens(self, g2p: G2P) -> None:
        text = "It costs $3.50! Well-known \u200b(“and/or”) He's\nin the U.S. a'1 — 50% of [x](/wˈɜɹd/) 12:30"
        assert heard(text, g2p.spoken(text, "a")) == [
            ("It", "ˌɪt"),
            ("costs", "kˈɔsts"),
            ("$3.50", "θɹˈi dˈɑləɹz ænd fˈɪfti sˈɛnts"),
            ("Well-known", "wˌɛlnˈOn"),
            ("and/or", "ænd ɔɹ"),
            ("He's", "hˌiz"),
            ("in", "ɪn"),
            ("the", "ðə"),
            ("U.S.", "jˌuˈɛs"),
            ("a'1", "ˈA wˈʌn"),
            ("50%", "fˈɪfti pəɹsˈɛnt"),
            ("of", "ʌv"),
            ("x", "wˈɜɹd"),
            ("12:30", "twˈɛlv:θˈɜɹTi"),
        ]

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(alphabet="0123456789.,-'$£%sS’a []()/#½Ⅻé😀Bto\u200b", max_size=40))
    def test_the_phonemes_are_all_of_misakis(self, g2p: G2P, text: str) -> None:
        from misaki import en

        said = []
        original = en.G2P.__call__

        def listening(self: object, *arguments: object) -> object:
            said.append(original(self, *arguments))
            return said[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(en.G2P, "__call__", listening)
            spoken = g2p.spoken(text, "a")
        assert_in_order(text, spoken)
        if len(said) == 1:  # it did not crash
            alone = spoken.phonemes.replace("ˈA", "ɐ")  # the letter, which misaki takes for the article
            assert alone == said[0][0].replace("❓", "").replace("ˈA", "ɐ").strip()

    def test_british_and_american_are_apart(self, g2p: G2P) -> None:
        assert g2p.spoken("a hot bath", "a").phonemes == "ɐ hˈɑt bˈæθ"
        assert g2p.spoken("a hot bath", "b").phonemes == "ɐ hˈɒt bˈɑːθ"

    def test_unknown_words_are_spoken_through_espeak(self, g2p: G2P) -> None:
        assert g2p.spoken("blorptastic", "a").phonemes.count("b") == 1
        assert "❓" not in g2p.spoken("blorptastic 你好 😀", "a").phonemes

    def test_english_imports_nothing_that_it_does_not_use(self, tmp_path: Path) -> None:
        unused = {"transformers", "curated_transformers", "spacy_curated_transformers", "huggingface_hub"}  # plugins
        unused |= {"phonemizer", "segments", "csvw", "joblib", "spacy.cli", "typer", "weasel", "requests", "kokoro"}
        run = run_fresh(
            "import sys, kokoro_common.phonemes.g2p as g\n"
            f"print(g.G2P(None, {str(tmp_path)!r}).spoken('a blorp', 'a').phonemes, {unused!r} & sys.modules.keys())\n"
        )
        assert (run.stdout, run.stderr) == ("ɐ blˈɔɹp set()\n", "")

    def test_what_is_left_out_changes_no_phoneme(self, g2p: G2P) -> None:
        run = run_fresh(EVERYTHING.format(texts=ENGLISH_TEXTS))
        assert run.returncode == 0, run.stderr
        said = [g2p.spoken(text, lang).phonemes for lang in "ab" for text in ENGLISH_TEXTS]
        assert said == run.stdout.splitlines()

    def test_warming_also_starts_what_says_unknown_words(self, tmp_path: Path) -> None:
        g2p = G2P(None, str(tmp_path))
        g2p.warm("a")
        assert g2p._espeak._worker is not None
        assert list(g2p._front_ends) == ["a"]

    def test_the_built_in_tagger_is_named_and_nothing_is_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import spacy.cli

        def forbidden(*_: object) -> None:
            raise AssertionError("tried to download")

        monkeypatch.setattr(spacy.cli, "download", forbidden)
        g2p = G2P(None, str(tmp_path))
        assert g2p.quality == {}
        g2p.warm("a")
        assert g2p.quality == {"en": "built-in tagger"}

    def test_words_that_were_never_said_before_are_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import spacy

        made = [spacy.blank("en")]
        monkeypatch.setattr(spacy, "blank", lambda _: made[0])
        g2p = G2P(None, str(tmp_path))
        for lang in "ab":
            expected = g2p.spoken("Blorptastic it was.", lang)
            kept = len([*made[0].vocab]), len(made[0].vocab.strings)
            for number in range(100):
                assert g2p.spoken(f"Say blorp{number} and {'xyzzy' * 20}{number} for $3.50.", lang).phonemes
            assert (len([*made[0].vocab]), len(made[0].vocab.strings)) == kept
            assert g2p.spoken("Blorptastic it was.", lang) == expected

    def test_a_spacy_model_is_loaded_by_its_path(self, tmp_path: Path) -> None:
        import spacy
        from spacy.training import Example

        nlp = spacy.blank("en", meta={"name": "toy", "version": "1.2.3"})
        nlp.add_pipe("tagger")
        nlp.add_pipe("sentencizer")
        example = Example.from_dict(nlp.make_doc("live"), {"tags": ["VB"]})
        nlp.initialize(lambda: [example])
        nlp.to_disk(tmp_path / "model")
        g2p = G2P(str(tmp_path / "model"), str(tmp_path))
        assert g2p.spoken("live", "a").phonemes == "lˈɪv"  # this model knows no tag but VB
        assert g2p.quality == {"en": "spacy en_toy 1.2.3"}
        assert cast(Any, g2p._english._analyse).component_names == ["tagger"]  # nothing that misaki does not ask for

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
        assert g2p.spoken("a live show", "a").phonemes == "ɐ lˈIv ʃˈO"
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
        assert "❓" not in g2p.spoken(text, "a").phonemes


@pytest.mark.model
@ENGLISH
@pytest.mark.parametrize("lang", ["a", "b"])
@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        *((text, "ˈA") for text in ("A", "a", "A.", "A?", "(a)")),
        ("A, B", "ˈA, bˈi"),
        ("Plan A", "plˈæn ˈA"),
        ("a cat", "ɐ kˈæt"),
        ('a "cat"', "ɐ “kˈæt”"),
    ],
)
def test_a_letter_that_no_word_follows_is_no_article(g2p: G2P, lang: str, text: str, phonemes: str) -> None:
    spoken = g2p.spoken(text, lang).phonemes.replace("iː", "i").replace("a", "æ")
    assert spoken.strip("().?") == phonemes
