from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kokoro_common.text.chunker import MAX_CHUNK_CHARACTERS, Chunker, TextChunk, parted
from kokoro_common.text.clean import clean
from kokoro_common.text.marks import speakable

HOSTILE = [
    "a" * 100_000,
    "7" * 50_000,
    "😀" * 3_000,
    "👩‍👩‍👧‍👦" * 500,
    "H̷̢̛e̵͓͝l̶̰̏l̸̝̈o̵̞̓ " * 300,
    "\u202eab\u202c cd\u2066ef\u2069. " * 200,
    "\0" * 1_000 + "one\0two. three",
    "\ud800\udfff half \udc80.",
    "\x1b[31mred\x1b[0m. \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\. " * 100,
    "\x1b" * 2_000 + "[",
    "\x1b]" + "no end " * 2_000,
    "\r" * 500 + "a\r\nb",
    "mixed, смешанный 混合。 मिश्रित। مختلط؟ " * 100,
    ", " * 3_000,
    "。" * 3_000,
    "... " * 3_000,
    "A. " * 3_000,
    "\n" * 5_000 + "x" + " " * 5_000 + "\n\n\t",
    "！」" * 2_000,
    "a" * 399 + " " + "b" * 401 + ", c",
]
PIECES = [
    *"aB1.,;:!?\"') \n\t—…。！、「」।\r\x1b[]m\0\u200b\u0301\u200d",
    "\x1b[0m",
    "Dr. ",
    "etc. ",
    "p.m. ",
    "... ",
    "word ",
]
LANGUAGES = "abefhijpz"


def chunks_of(text: str, lang: str = "a") -> list[TextChunk]:
    chunker = Chunker(lang)
    return chunker.feed(text) + chunker.finish()


def texts_of(text: str, lang: str = "a") -> list[str]:
    return [chunk.text for chunk in chunks_of(text, lang)]


def squeezed(text: str) -> str:
    return "".join(text.split())


def check_nothing_lost(text: str, lang: str) -> None:
    """Every character that is left by clean() is in exactly one chunk, in order, and in that chunk's range."""
    chunks = chunks_of(text, lang)
    assert squeezed("".join(chunk.text for chunk in chunks)) == squeezed(clean(text))
    border = 0
    for chunk in chunks:
        assert border <= chunk.start < chunk.end <= len(text)
        assert not clean(text[border : chunk.start]).strip() or "\x1b" in text
        assert chunk.text == " ".join(chunk.text.split())
        assert 0 < len(chunk.text) <= MAX_CHUNK_CHARACTERS
        if "\x1b" not in text and "\x9b" not in text:  # a sequence cut by a range is not one any more
            assert squeezed(clean(text[chunk.start : chunk.end])) == squeezed(chunk.text)
        border = chunk.end


texts = st.one_of(
    st.text(max_size=400),
    st.lists(st.sampled_from(PIECES), max_size=250).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=250).map("".join).map(lambda text: "lorem ipsum, " * 30 + text),
)


@given(texts, st.sampled_from(LANGUAGES))
@settings(max_examples=300)
def test_no_character_is_lost_or_doubled(text: str, lang: str) -> None:
    check_nothing_lost(text, lang)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_character_of_a_hostile_text_is_lost_or_doubled(text: str) -> None:
    check_nothing_lost(text, "a")


@given(texts, st.sampled_from(LANGUAGES), st.lists(st.integers(0, 800)))
@settings(max_examples=300)
@example("One.\r\nTwo \x1b[31mthree\x1b[0m. 好。」四", "a", [4, 5, 6, 12, 13, 14, 15, 16, 17, 18])
def test_borders_do_not_depend_on_how_the_text_was_fed(text: str, lang: str, cuts: list[int]) -> None:
    chunker = Chunker(lang)
    fed: list[TextChunk] = []
    for start, end in itertools.pairwise(sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})):
        fed += chunker.feed(text[start:end])
    assert fed + chunker.finish() == chunks_of(text, lang)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_fed_by_the_character_gives_the_same_chunks_in_little_memory(text: str) -> None:
    text = text[:6_000]
    chunker = Chunker("a")
    fed: list[TextChunk] = []
    for character in text:
        fed += chunker.feed(character)
        assert len(chunker._body) <= MAX_CHUNK_CHARACTERS + 2 and len(chunker._raw) < 2_100
        assert len(chunker._body) == len(chunker._places)
    assert fed + chunker.finish() == chunks_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mrs. Jones, e.g. at 5 p.m. on Jan. 5, i.e. late.|Then Mr. X left.",
        "It costs 3.14 dollars.|Pi is 3.14159 and no more.",
        "The U.S.A. is large.|J. K. Rowling and J.R.R. Tolkien wrote books.",
        "Apples, pears, etc. and more.|Apples, pears, etc.|The end.",
        "Well...|I see.|Wait... and see…|Good.",
        "No. 5 is alive.|No.|I won't.|It is I.|Yes.",
        "“Really?”|he asked.|(Yes.)|'Sure!'|*Bold.*|She said “no.”|All right.",
        "What?!|No way!!|Ok.",
        "1. Stir the soup.|2. Eat it.",
        "Visit example.com or mail a.b@example.org.|Version 1.2.3 is out.",
    ],
)
def test_english_sentences_end_where_they_end(text: str) -> None:
    assert texts_of(text.replace("|", " ")) == text.split("|")


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("e", "El Sr. García y la Dra. Ruiz viven en EE. UU. desde 1990.|¿De verdad?|¡Sí!"),
        ("f", "M. Dupont et Mme. Roux sont là.|Ils parlent, p. ex. de musique.|Bien."),
        ("i", "Il dott. Rossi e la sig. Verdi, ecc. sono qui.|Bene."),
        ("p", "O Sr. Silva e a Dra. Souza chegaram.|Ótimo."),
        ("h", "यह घर है।| डॉ. राम आए।|अच्छा!"),
        ("b", "Dr. Watson knew.|Mr. Holmes did, too."),
    ],
)
def test_sentences_of_other_languages_end_where_they_end(lang: str, text: str) -> None:
    assert texts_of(text.replace("|", " "), lang) == [sentence.strip() for sentence in text.split("|")]


def test_chinese_and_japanese_sentences_need_no_blank() -> None:
    assert texts_of("你好。世界！真的吗？！是的", "z") == ["你好。", "世界！", "真的吗？！", "是的"]
    assert texts_of("「はい。」彼は言った。", "j") == ["「はい。」", "彼は言った。"]
    assert texts_of("यह है।वह है।", "h") == ["यह है।", "वह है।"]


def test_a_blank_line_ends_a_sentence_and_a_single_newline_does_not() -> None:
    assert texts_of("A headline\n\nSome text\nthat goes on.\n \t\nMore") == [
        "A headline",
        "Some text that goes on.",
        "More",
    ]
    assert texts_of("A headline\r\n\r\nText\r\nmore") == ["A headline", "Text more"]


def test_lines_without_punctuation_are_cut_between_lines() -> None:
    lines = [f"item number {number} of the long list" for number in range(40)]
    for chunk in texts_of("\n".join(lines)):
        assert chunk.startswith("item") and chunk.endswith("list")


@pytest.mark.parametrize("end", [" ", "\n", "\t", "\u3000"])
@pytest.mark.parametrize("sentence", ["Hello there.", "Hello?", '"Hello!"', "(Hello.)", "你好。", "यह है।"])
def test_a_sentence_leaves_with_the_blank_behind_it(sentence: str, end: str) -> None:
    chunker = Chunker("a")
    assert chunker.feed(sentence) == []
    assert [chunk.text for chunk in chunker.feed(end)] == [sentence]


def test_a_line_that_may_be_an_abbreviation_leaves_with_its_newline() -> None:
    chunker = Chunker("a")
    assert chunker.feed("Loading... ") == []
    assert [chunk.text for chunk in chunker.feed("\n")] == ["Loading..."]
    assert [chunk.text for chunk in chunker.feed("No.\n")] == ["No."]


def test_a_long_first_sentence_is_cut_early_and_a_later_one_is_not() -> None:
    sentence = (
        "When it rains, and it does rain in these parts, nobody goes out, nobody comes in, and the streets are empty."
    )
    first, rest, second = texts_of(f"{sentence} {sentence}")
    assert first == "When it rains, and it does rain in these parts,"
    assert f"{first} {rest}" == second == sentence


def test_a_short_first_sentence_is_left_whole() -> None:
    sentence = "When it rains, and it does rain here, nobody goes out at all."
    assert texts_of(sentence) == [sentence]


def test_the_early_cut_waits_for_something_to_say() -> None:
    sentence = "When it rains, and it does rain in these parts, nobody goes out, nobody comes in, and all is empty."
    assert texts_of(f"***\n\n{sentence}")[1] == "When it rains, and it does rain in these parts,"


def test_long_sentences_are_cut_at_clauses_then_at_blanks_then_in_the_word() -> None:
    clauses = "some words that make a clause, " * 40
    assert all(chunk.endswith("clause,") for chunk in texts_of(clauses))
    words = "word " * 300
    assert all(set(chunk.split()) == {"word"} for chunk in texts_of(words))
    assert [len(chunk) for chunk in texts_of("x" * 801)] == [400, 400, 1]


def test_a_cut_in_a_word_leaves_accents_on_their_letters_and_emoji_whole() -> None:
    assert all(chunk.startswith("e\u0301") for chunk in texts_of("x" + "e\u0301" * 600)[1:])
    family = "👩\u200d👩\u200d👧"
    assert all(chunk.startswith(family) for chunk in texts_of("x" + family * 300)[1:])


def test_chunks_of_languages_with_dense_scripts_are_shorter() -> None:
    assert {len(chunk) for chunk in texts_of("中" * 1_000, "z")} == {100}


def test_ranges_count_the_characters_that_were_fed_junk_included() -> None:
    text = "\x1b[1mOne\x1b[0m.\r\n\u200bTwo\x00three. "
    (one, two) = chunks_of(text)
    assert (one.text, text[one.start : one.end]) == ("One.", "One\x1b[0m.")
    assert (two.text, text[two.start : two.end]) == ("Two three.", "Two\x00three.")


def test_text_without_anything_has_no_chunks() -> None:
    assert chunks_of("") == chunks_of(" \n\t\u200b\0") == []


def test_a_flush_gives_complete_clauses_or_all_and_loses_nothing() -> None:
    chunker = Chunker("a")
    assert chunker.feed("One, two; three") == []
    assert chunker.pending
    assert [chunk.text for chunk in chunker.flush(clauses_only=True)] == ["One, two;"]
    assert chunker.flush(clauses_only=True) == []
    assert [chunk.text for chunk in chunker.flush(clauses_only=False)] == ["three"]
    assert not chunker.pending
    assert [chunk.text for chunk in chunker.feed(" four. ")] == ["four."]


def test_a_comma_at_the_very_end_is_a_clause_end_for_a_writer_that_pauses() -> None:
    chunker = Chunker("a")
    chunker.feed("Well,")
    assert [chunk.text for chunk in chunker.flush(clauses_only=True)] == ["Well,"]


@given(st.text(st.sampled_from("ab ,;."), min_size=1, max_size=200), st.integers(1, 100))
def test_a_parted_chunk_is_whole_again_when_joined(text: str, limit: int) -> None:
    text = " ".join(text.split())
    chunk = TextChunk(text=text, start=0, end=len(text), places=tuple(range(len(text))))
    head, tail = parted(chunk, limit)
    if tail is None:
        assert head == chunk
    else:
        assert len(head.text) <= limit
        assert head.text.endswith((",", ";"))
        assert f"{head.text} {tail.text}" == chunk.text
        assert [text[place] for place in (*head.places, *tail.places)] == list(head.text + tail.text)
        assert speakable(tail.text)
