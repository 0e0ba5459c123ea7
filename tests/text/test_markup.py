"""What is markup leaves the text, what is none stays, and nothing depends on how the text was fed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.text.chunker import MAX_CHUNK_CHARACTERS, Chunker, TextChunk, parted
from kokoro_common.text.edits import Edit
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import MAX_HELD, Markup

PIECES = [
    *"ab.!?:|#>*-_=`~[]()<\n \t1",
    "# ",
    "- ",
    "```\n",
    "~~~ sh\n",
    "| a | b |\n",
    "|---|\n",
    "[a](/b/)",
    "[a](+1)",
    "[pause:1s]",
    "[voice:am_adam]",
    "[voice:-]",
    "[a](http://b)",
    "![a](b)",
    "<!--",
    "-->",
    "Bob: ",
    "word. ",
]
texts = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


def chunker(*, read_code: bool = False, cast: dict[str, str] | None = None) -> Chunker:
    return Chunker("a", Markup("a", read_code=read_code, cast=cast, voices=["af_bella", "am_adam"]))


def chunks_of(text: str, *, read_code: bool = False, cast: dict[str, str] | None = None) -> list[TextChunk]:
    reader = chunker(read_code=read_code, cast=cast)
    return reader.feed(text) + reader.finish()


def said(text: str, *, read_code: bool = False) -> list[str]:
    return [chunk.text for chunk in chunks_of(text, read_code=read_code) if speakable(chunk.text)]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("# Title\nA text. Next", ["Title", "A text.", "Next"]),
        ("## Title ##\n\ntext", ["Title", "text"]),
        ("Title\n=====\ntext", ["Title", "text"]),
        ("one\n\n---\n\ntwo\n* * *\nthree", ["one", "two", "three"]),
        ("- one\n- two\n  * three\n+ four", ["one", "two", "three", "four"]),
        ("1. Stir.\n2. Bake\n10) Eat", ["1. Stir.", "2. Bake", "10) Eat"]),
        ("> quoted\n> > twice\nmine", ["quoted twice mine"]),
        ("| Name | Speed |\n|:---|---:|\n| kokoro | 0.5 |\nend", ["Name, Speed", "kokoro, 0.5", "end"]),
        (r"| a \| b | c |" + "\n", [r"a \| b, c"]),
        ("```python\nprint(1)\n```\nAfter.", ["Code, python.", "After."]),
        ("One.\n\n~~~~~~~\n\nTwo.\n~~~ Part ~~~\nThree.", ["One.", "Two.", "~~~ Part ~~~ Three."]),
        ("Before\n````\n```\nx\n````\nafter", ["Before", "Code.", "after"]),
        ("A [link](https://a.org/b_(c) \"t\") here.", ["A link here."]),
        ("![logo](a.png) and [![b](c)](d)", ["logo and b"]),
        ("<!-- not\nthis -->but this", ["but this"]),
        ("[1]: https://example.com \"x\"\ntext", ["text"]),
    ],
)  # fmt: skip
def test_markdown_is_said_without_its_signs(text: str, chunks: list[str]) -> None:
    assert said(text) == chunks


@pytest.mark.parametrize(
    "text",
    [
        "-5 degrees",
        "--no-wait is a flag",
        "#hashtag",
        "#!/bin/sh",
        "**Bold** begins it",
        "array[i](x) = [y]",
        "[1] is a note, (a) too",
        "[not closed",
        "2024. The year",
        "a | b | c",
        "Wow! Yes! [so",
        "[Note]: this matters",
        "[a](b c)",
        "`code` begins it",
        "write `[voice:am_adam]` or `[word](/wɝd/)`",
        "<b>bold</b>",
        "[[[[[[",
        "[pause:soon] [voice:]",
        "<!-- never ends",
        "Bob: hello",
    ],
)
def test_what_only_looks_like_markup_is_text(text: str) -> None:
    assert " ".join(chunk.text for chunk in chunks_of(text)) == text


def test_code_is_read_line_by_line_if_that_is_wanted() -> None:
    assert said("```sh\nls -l\n\ncd [x](/y/)\n```\nend", read_code=True) == ["Code, sh.", "ls -l", "cd [x](/y/)", "end"]


def test_phonemes_and_stress_go_with_their_words() -> None:
    text = "Say [Kokoro](/kˈOkəɹO/) and [very](+1) well."
    (chunk,) = chunks_of(text)
    assert chunk.text == "Say Kokoro and very well."
    assert chunk.edits == (Edit(4, 10, "kˈOkəɹO", True), Edit(15, 19, "[very](+1)"))
    assert [chunk.places[4], chunk.places[9], chunk.places[10]] == [5, 10, text.index(" and")]


def test_a_marked_word_does_not_end_a_sentence_and_is_not_cut() -> None:
    marked = "[Mr. X. Y](/ɛks/)"
    assert [chunk.text for chunk in chunks_of(f"See {marked} now. Then. {marked}")] == [
        "See Mr. X. Y now.",
        "Then.",
        "Mr. X. Y",
    ]
    for chunk in chunks_of(f"{'a' * 395} {marked} b {'[' + 'c' * 300 + '](/d/)'} e"):
        assert len(chunk.text) <= MAX_CHUNK_CHARACTERS
        assert all(chunk.text[edit.start : edit.end] in ("Mr. X. Y", "c" * 300) for edit in chunk.edits)
    chunk = TextChunk(
        text="one, two, a, b, c", start=0, end=17, places=tuple(range(17)), edits=(Edit(10, 14, "c", True),)
    )
    head, tail = parted(chunk, 12)
    assert tail is not None and head.text == "one, two," and tail.edits == (Edit(0, 4, "c", True),)


def test_pauses_and_voices_stand_between_chunks() -> None:
    chunks = chunks_of("One [pause:1.5s] two. [voice:am_adam]Three. Four[voice:-] five [pause: 250 ms]")
    assert [(chunk.text, chunk.voice, chunk.pause) for chunk in chunks] == [
        ("One", "", 0.0),
        ("", "", 1.5),
        ("two.", "", 0.0),
        ("Three.", "am_adam", 0.0),
        ("Four", "am_adam", 0.0),
        ("five", "", 0.0),
        ("", "", 0.25),
    ]


def test_in_a_dialogue_each_name_has_a_voice() -> None:
    text = "Alice: Hi, Bob. Well?\nBob: Fine: very.\nand more\nEve: I?\nbob: Yes.\nthe old man: No.\nAll I say is: no."
    assert [(chunk.text, chunk.voice) for chunk in chunks_of(text, cast={"Bob": "bm_lewis", "the old man": "x"})] == [
        ("Hi, Bob.", "af_bella"),
        ("Well?", "af_bella"),
        ("Fine: very.", "bm_lewis"),
        ("and more", "bm_lewis"),
        ("I?", "am_adam"),
        ("Yes.", "bm_lewis"),
        ("No.", "x"),
        ("All I say is: no.", "x"),
    ]


@given(texts, st.booleans(), st.sampled_from([None, {"a": "af_bella"}]))
@settings(max_examples=500)
def test_chunks_do_not_depend_on_how_the_text_was_fed(text: str, read_code: bool, cast: dict[str, str] | None) -> None:
    reader = chunker(read_code=read_code, cast=cast)
    fed = [chunk for character in text for chunk in reader.feed(character)] + reader.finish()
    assert fed == chunks_of(text, read_code=read_code, cast=cast)
    ends = [chunk.places[-1] for chunk in fed if chunk.text]
    assert ends == sorted(ends)
    for chunk in fed:
        assert len(chunk.text) == len(chunk.places) and len(chunk.text) <= MAX_CHUNK_CHARACTERS
        assert list(chunk.places) == sorted(chunk.places)
        assert all(0 <= edit.start < edit.end <= len(chunk.text) for edit in chunk.edits)


@given(st.text("ab.,! '\n", max_size=300))
def test_a_text_without_markup_is_cut_as_if_there_were_none(text: str) -> None:
    plain = Chunker("a")
    assert chunks_of(text) == plain.feed(text) + plain.finish()


@pytest.mark.parametrize(
    "piece", ["[x", "[", "![a](", "#", "| a ", "- ", "[a](b ", "```\n", "<!--", "\n", " ", "-", "> ", "1. ", "[a](/b/)"]
)
def test_hostile_text_is_held_in_little_memory(piece: str) -> None:
    reader = chunker(cast={})
    for character in piece * (6_000 // len(piece)):
        reader.feed(character)
        assert reader._markup is not None and len(reader._markup._held) <= MAX_HELD + 1
    reader.finish()


@pytest.mark.parametrize(
    ("tag", "seconds"),
    [
        ("[pause:2]", 2.0),
        ("[pause: 1.5 ]", 1.5),
        ("[pause:500]", 0.5),  # nobody rests for 500 s
        ("[pause:60]", 60.0),
        ("[pause:.5s]", 0.5),
        ("[Pause:2 sec]", 2.0),
        ("[pause:2 seconds]", 2.0),
        ("[pause:250MS]", 0.25),
        ("[pause:90s]", 60.0),
    ],
)
def test_a_pause_is_understood_as_people_write_it(tag: str, seconds: float) -> None:
    assert [chunk.pause for chunk in chunks_of(f"One {tag} two.")] == [0.0, seconds, 0.0]


@pytest.mark.parametrize(
    "tag", ["[pause]", "[pause:2 m]", "[pause:soon]", "[voice: am adam]", "[voice]", "[pause:-1s]"]
)
def test_what_looks_like_a_tag_and_is_none_is_read_and_told(tag: str) -> None:
    markup = Markup("a")
    reader = Chunker("a", markup)
    chunks = reader.feed(f"One {tag} two.") + reader.finish()
    assert [chunk.text for chunk in chunks] == [f"One {tag} two."]
    assert len(markup.notices) == 1 and tag in markup.notices[0] and "; write [pause:1.5s]" in markup.notices[0]
