"""SSML is spoken as it says, or named as not supported; what is no XML is an error with its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.errors import UsageError
from kokoro_common.text.chunker import Chunker, TextChunk
from kokoro_common.text.edits import Edit
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import Markup
from kokoro_common.text.ssml import MAX_DEPTH, Ssml, Unknown


def spoken(text: str, *, by_character: bool = False) -> tuple[list[TextChunk], list[str]]:
    """Chunks and notices."""
    ssml = Ssml()
    chunker = Chunker("a", Unknown(Markup("a"), ssml))
    chunks = [chunk for part in (text if by_character else [text]) for chunk in chunker.feed(part)]
    chunks += chunker.finish()
    return [chunk for chunk in chunks if chunk.pause or speakable(chunk.text)], list(ssml.notices)


def texts(text: str) -> list[str]:
    return [chunk.text for chunk in spoken(f"<speak>{text}</speak>")[0]]


# What each element and attribute of the recommendation's sections 3.1 to 3.3 is for, in sentences of our own.
ELEMENTS = {
    "declaration": (
        '<?xml version="1.0" encoding="UTF-8"?>\n<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b" xml:lang="en-US">hi</speak>',
        ["hi"],
    ),
    "doctype": (
        '<!DOCTYPE speak PUBLIC "-//W3C//DTD SYNTHESIS 1.0//EN" "http://127.0.0.1:9/x.dtd"><speak>hi</speak>',
        ["hi"],
    ),
    "p and s": ("<speak><p><s>One, two</s><s>three</s></p><p>four</p></speak>", ["One, two", "three", "four"]),
    "base and onlangfailure": ('<speak xml:base="http://x" onlangfailure="ignorelang">hi</speak>', ["hi"]),
    "lexicon": ('<speak><lexicon uri="http://x" xml:id="l"/><lookup ref="l">hi</lookup></speak>', ["hi"]),
    "meta": ('<speak><meta name="a" content="b"/><metadata><a>not said</a></metadata>hi</speak>', ["hi"]),
    "token and w": ('<speak><token>New York</token> <w role="x">is</w> big</speak>', ["New York is big"]),
    "lang": ('<speak>a <lang xml:lang="fr">b</lang> c</speak>', ["a", "b", "c"]),
    "voice": ('<speak>a <voice name="am_adam">b</voice> c</speak>', ["a", "b", "c"]),
    "audio": ('<speak><audio src="x.wav"><desc>a bell</desc>ding</audio> dong</speak>', ["ding dong"]),
    "mark": ('<speak>go <mark name="here"/>on</speak>', ["go on"]),
    "contour": (
        '<speak>Good <prosody contour="(0%,+20Hz) (10%,+30%)" range="low" duration="2s">morning</prosody></speak>',
        ["Good morning"],
    ),
    "voice by features": (
        '<speak>a <voice gender="male" age="30" variant="2" languages="en-US" required="gender">b</voice></speak>',
        ["a", "b"],
    ),
    "clips": ('<speak><audio src="x" fetchtimeout="3s" clipBegin="1s" repeatCount="2">ding</audio></speak>', ["ding"]),
    "say-as": ('<speak><say-as interpret-as="date" format="mdy">1/2/1960</say-as></speak>', ["1/2/1960"]),
    "CDATA and comments": ("<speak><![CDATA[a < b]]><!-- c --> d</speak>", ["a < b d"]),
    "entities": ("<speak>R&amp;D &#x3c; &quot;x&quot;</speak>", ['R&D < "x"']),
}


@pytest.mark.parametrize(("text", "chunks"), ELEMENTS.values(), ids=ELEMENTS.keys())
def test_each_element_is_spoken(text: str, chunks: list[str]) -> None:
    assert [chunk.text for chunk in spoken(text)[0]] == chunks


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ('<phoneme ph="təˈmeɪtoʊ">tomato</phoneme> soup', Edit(0, 6, "təˈmeɪtoʊ", True)),
        ('<phoneme alphabet="ipa" ph="x">a <w>b</w></phoneme> soup', Edit(0, 3, "x", True)),
        ('<sub alias="World Health Organization">WHO</sub>', Edit(0, 3, "World Health Organization")),
        ('<say-as interpret-as="characters">abc</say-as>', Edit(0, 3, "a, b, c")),
        ('<say-as interpret-as="telephone" format="1">+1 (555)</say-as>', Edit(0, 8, "+ 1 5 5 5")),
        ("<emphasis>big</emphasis> car", Edit(0, 3, "[big](+1)")),
        ('<emphasis level="reduced">big</emphasis> car', Edit(0, 3, "[big](-1)")),
    ],
)  # fmt: skip
def test_some_words_are_said_in_another_way(text: str, edit: Edit) -> None:
    (chunk,), notices = spoken(f"<speak>{text}</speak>")
    assert chunk.edits[0] == edit and not notices


def test_an_ordinal_is_said_as_one() -> None:
    assert texts("".join(f'<say-as interpret-as="ordinal">{number}</say-as> ' for number in (1, 2, 3, 11, 22))) == [
        "1st 2nd 3rd 11th 22nd"
    ]


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ("", 0.5),
        ('time="250ms"', 0.25),
        ('time="+3s"', 3.0),
        ('time="9999s"', 60.0),
        ('strength="strong"', 0.8),
        ('strength="x-weak" time="1.5s"', 1.5),
    ],
)
def test_a_break_is_silence(attributes: str, seconds: float) -> None:
    chunks, notices = spoken(f"<speak>a <break {attributes}/> b</speak>")
    assert [(chunk.text, chunk.pause) for chunk in chunks] == [("a", 0.0), ("", seconds), ("b", 0.0)] and not notices
    assert texts('a <break strength="none"/> b') == ["a", "b"]


@pytest.mark.parametrize(
    ("attributes", "speed", "gain"),
    [
        ('rate="slow"', 0.75, 1.0),
        ('rate="80%"', 0.8, 1.0),
        ('rate="+20%"', 1.2, 1.0),
        ('rate="1.5"', 1.5, 1.0),
        ('volume="soft"', 1.0, 0.5),
        ('volume="-6dB"', 1.0, 10 ** (-6 / 20)),
        ('volume="+99dB"', 1.0, 2.0),
        ('volume="50"', 1.0, 0.5),
        ('volume="silent"', 1.0, 0.0),
    ],
)
def test_prosody_is_rate_and_volume(attributes: str, speed: float, gain: float) -> None:
    chunks, notices = spoken(f"<speak>a <prosody {attributes}>b <prosody>c</prosody></prosody> d</speak>")
    manners = {chunk.text: chunk.manner[:2] for chunk in chunks}
    assert manners == {"a": (1.0, 1.0), "b c": pytest.approx((speed, gain)), "d": (1.0, 1.0)} and not notices


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('<prosody pitch="high">a</prosody>', "<prosody pitch>"),
        ('<prosody rate="warp">a</prosody>', '<prosody rate="warp">'),
        ('<phoneme alphabet="x-sampa" ph="t">a</phoneme>', "the alphabet x-sampa"),
        ('<break time="soon"/>a', '<break time="soon">'),
        ('<say-as interpret-as="vxml:boolean">a</say-as>', 'interpret-as="vxml:boolean"'),
        ("<sparkle>a</sparkle>", "<sparkle>"),
        ('<audio src="b"/>a', "<audio>"),
    ],
)
def test_what_is_not_supported_is_named_once_and_read(text: str, named: str) -> None:
    chunks, notices = spoken(f"<speak>{text} {text}</speak>")
    assert "a" in [chunk.text for chunk in chunks] or [chunk.text for chunk in chunks] == ["a a"]
    assert len(notices) == 1 and named in notices[0]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("<speak>a <b>c</speak>", "line 1, column 16"),
        ("<speak>\n a & b</speak>", "line 2, column 5"),
        ("<speak>a", "line 1, column 9"),
        ("<speak>a</speak> b", "line 1, column 18"),
        ("<speak>&unknown;</speak>", "undefined entity"),
        ('<!DOCTYPE speak [<!ENTITY a "b">]><speak>&a;</speak>', "declares the entity 'a'"),
        ("<speak>" + "<p>" * (MAX_DEPTH + 1), "elements in each other"),
    ],
)
def test_what_is_no_xml_is_an_error_with_its_place(text: str, place: str) -> None:
    with pytest.raises(UsageError, match=place):
        spoken(text)


@pytest.mark.parametrize("text", ["<speakers are loud", "a <speak>", "<", "<?php echo 1", "< speak>", "<sp"])
def test_only_a_text_that_begins_with_speak_is_ssml(text: str) -> None:
    assert "".join(chunk.text for chunk in spoken(text)[0]) in (text, "")


def test_a_tag_or_comment_without_end_is_an_error_and_not_looked_at_for_ever() -> None:
    for text in ("<speak><!-- " + "x" * 100_000, "<speak><p " + "x" * 100_000):
        with pytest.raises(UsageError, match="more than 4000 characters"):
            spoken(text)
    assert [chunk.text for chunk in spoken("<speak>" + "<!-- x -->" * 100 + "hi</speak>")[0]] == ["hi"]


def test_what_the_declaration_says_of_its_file_is_not_believed() -> None:
    for encoding in ("ISO-8859-1", "UTF-16"):
        (chunk,), _ = spoken(f'\n<?xml version="1.0" encoding="{encoding}"?><speak>café naïve</speak>')
        assert chunk.text == "café naïve"


def test_all_letters_of_a_long_word_are_spelled() -> None:
    chunks, _ = spoken(f'<speak><say-as interpret-as="characters">{"ab" * 300}</say-as></speak>')
    said = "".join(edit.said for chunk in chunks for edit in chunk.edits)
    assert said.replace(", ", "") == "ab" * 300


PIECES = [
    "<p>",
    "</p>",
    "<break/>",
    "a",
    "b. ",
    "&amp;",
    "\n",
    '<sub alias="x">',
    "</sub>",
    "<emphasis>",
    "</emphasis>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@settings(max_examples=300)
def test_nothing_depends_on_how_it_was_fed(text: str) -> None:
    def outcome(*, by_character: bool) -> object:
        try:
            return spoken(f" <speak>{text}</speak>", by_character=by_character)
        except UsageError as error:
            return str(error)

    assert outcome(by_character=True) == outcome(by_character=False)


def test_words_know_their_place_in_the_source() -> None:
    source = "<speak>One <emphasis>two</emphasis> R&amp;D</speak>"
    (chunk,), _ = spoken(source)
    places = dict(zip(chunk.text, chunk.places, strict=True))
    assert [source[places[letter]] for letter in "OtwRD"] == list("OtwRD")
    assert chunk.end == source.index("D<") + 1
