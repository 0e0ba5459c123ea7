"""Lexicon, tags, SSML and --explain through the whole line: say.py, both servers, the toy Kokoro."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from kokoro_common.phonemes.g2p import ESPEAK_LANGUAGES, G2P
from kokoro_common.phonemes.spoken import split_spoken
from kokoro_common.reading.reader import read
from kokoro_common.text.chunker import Chunker
from kokoro_common.text.edits import merged, spelled
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import Markup
from kokoro_common.text.ssml import Ssml, Unknown
from kokoro_common.voices.catalogue import LANGUAGES
from kokoro_common.voices.levels import LENGTHS
from kokoro_common.voices.user_voices import own_level
from tests.conftest import World
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.toy_kokoro import ToyKokoro

GOLDEN = Path(__file__).parent.parent / "data" / "reading.tsv"
LINES = [line.split("\t") for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]


TEXTS = sorted((GOLDEN.parent / "texts").glob("*.txt"))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_texts_that_people_feed_are_said_as_a_careful_reader_would(path: Path) -> None:
    """The .said beside each was reviewed by hand: a line for each text chunk."""
    chunker = Chunker("a", Unknown(Markup("a"), Ssml()))
    chunks = chunker.feed(path.read_text()) + chunker.finish()
    said = [spelled(chunk.text, merged(chunk.edits, read(chunk.text, "a")))[0] for chunk in chunks]
    spoken = [" ".join(line.split()) for chunk, line in zip(chunks, said, strict=True) if speakable(chunk.text)]
    assert spoken == path.with_suffix(".said").read_text().splitlines()


@pytest.fixture
def toy_world(world: World, toy_kokoro: ToyKokoro) -> Iterator[World]:
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        world.environment["KOKORO_CONFIG_DIR"] = str(world.path / "config")
        yield world
        world.say("--shutdown", "-q")


def spoken_pieces(world: World) -> list[dict[str, object]]:
    """What the engine got, pauses left out."""
    return [entry for entry in world.log("model_server") if entry["event"] == "phonemes" and entry["phonemes"]]


def phonemes(world: World) -> list[str]:
    """What the engine got for each text chunk of the last utterance that it got any for."""
    spoken = spoken_pieces(world)
    chunks: dict[object, list[str]] = defaultdict(list)
    for entry in spoken:
        if entry["utterance"] == spoken[-1]["utterance"]:
            chunks[entry["index"]].append(str(entry["phonemes"]))
    return [" ".join(parts) for _, parts in sorted(chunks.items(), key=lambda item: int(str(item[0])))]


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_lexicon_entry_is_heard_in_the_next_utterance(toy_world: World) -> None:
    def say(text: str) -> str:
        done = toy_world.say("-o", "out.wav", "--debug", text, timeout=200)
        assert done.returncode == 0, done.stderr
        return " ".join(phonemes(toy_world))

    before = say("Nguyen wrote it.")
    assert toy_world.say("--lex", "add", "Nguyen", "/wˈɪn/").returncode == 0
    assert say("Nguyen wrote it.") == f"wˈɪn {before.split(' ', 1)[1]}"
    (toy_world.path / ".kokoro-lexicon").write_text("nguyen = winning\nwrote it = rote eat\n")
    assert say("Nguyen wrote it.").startswith("wˈɪnɪŋ ɹˈOt")
    assert "wrote it" in toy_world.say("--lex", "list").stdout
    assert toy_world.say("--lex", "test", "Nguyen's").stdout == "Nguyen -> winning\n"
    (toy_world.path / ".kokoro-lexicon").write_text("no entry\n")
    broken = toy_world.say("-o", "x.wav", "hello")  # what is wrong with it stops no speech
    assert broken.returncode == 0 and "line 1" in broken.stderr and broken.stderr.count("\n") == 1


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
def test_tags_and_ssml_reach_the_engine(toy_world: World) -> None:
    text = "One [Kokoro](/kˈOkəɹO/). [voice:am_adam]Two.[voice:-] [pause:0.5s] [voice:xx_none]Three."
    done = toy_world.say("-o", "tags.wav", "--debug", text, timeout=200)
    assert done.returncode == 0 and done.stderr.count("unknown voice 'xx_none'") == 1
    assert [part.rstrip(".") for part in phonemes(toy_world)] == ["wˈʌn kˈOkəɹO", "tˈu", "θɹˈi"]
    spoken = spoken_pieces(toy_world)
    assert [entry["voice"] for entry in spoken[-3:]] == ["af_heart", "am_adam", "af_heart"]
    samples, rate = soundfile.read(toy_world.path / "tags.wav", dtype="int16")
    silent = "".join("0" if sample == 0 else "1" for sample in samples)
    assert "0" * (rate // 2) in silent

    ssml = '<speak>Say <sub alias="hello">x</sub>. <prosody rate="2">Fast.</prosody></speak>'
    assert toy_world.say("-o", "x.wav", "--debug", ssml, timeout=200).returncode == 0
    spoken = spoken_pieces(toy_world)[-2:]
    assert "həlˈO" in str(spoken[0]["phonemes"]) and [entry["speed"] for entry in spoken] == [1.0, 2.0]
    broken = toy_world.say("-o", "x.wav", "<speak>a <b></speak>")
    assert broken.returncode == 2 and "line 1, column" in broken.stderr


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_text_that_is_wrong_costs_nobody_else_a_word(toy_world: World) -> None:
    late = toy_world.say("-o", "x.wav", f"<speak>{'This one is good. ' * 200}<p>oops</s></speak>", timeout=200)
    assert late.returncode == 2 and "mismatched tag" in late.stderr and late.stderr.count("say.py: this SSML") == 1
    assert not (toy_world.path / "x.wav").exists()
    explained = toy_world.say("--explain", "One [pause:1s] two.")
    assert (explained.returncode, explained.stdout.splitlines()[::2]) == (0, ["One", "two."])
    many = "".join(f"[a](/{'😀' * 290}/)" for _ in range(400))
    assert toy_world.say("--explain", stdin=many.encode(), timeout=200).returncode == 0
    silent = toy_world.say("-o", "y.wav", '<div align="center">\n\n# Title\n\nHello there.')
    assert (silent.returncode, silent.stderr) == (0, "")
    twice = toy_world.say("-o", "y.wav", "[voice:xx_none]One. Two. Three.")
    assert twice.stderr.count("xx_none") == 1


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
def test_voices_of_ones_own_speak(toy_world: World, toy_kokoro: ToyKokoro) -> None:
    def samples(voice: str) -> list[int]:
        done = toy_world.say("-v", voice, "-o", "out.wav", "Hello there.", timeout=200)
        assert done.returncode == 0, done.stderr
        return [int(sample) for sample in soundfile.read(toy_world.path / "out.wav", dtype="int16")[0]]

    blend = "af_heart:0.7,am_adam:0.3"
    reference = samples(blend)
    assert toy_world.say("-v", blend, "--save-voice", "af_mine").returncode == 0
    assert samples("af_mine") == reference
    added = toy_world.say("--add-voice", "am_carl", str(toy_kokoro.voice_path("am_adam")))
    assert (added.returncode, added.stderr) == (0, "")
    assert samples("am_carl") == samples("am_adam")
    level = own_level(toy_world.environment["KOKORO_CONFIG_DIR"], "am_carl")
    assert level is not None and len(level.lufs) == len(LENGTHS)
    assert toy_world.say("-v", "am_carl:0.6,af_heart:0.4", "--save-voice", "am_mix").returncode == 0
    assert samples("am_mix") == samples("am_adam:0.6,af_heart:0.4")
    assert "am_carl" in toy_world.say("-v", "?").stdout
    assert toy_world.say("-v", "am_nobody", "hello").returncode == 5


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "most", [pytest.param(6, id="some lines"), pytest.param(1000, id="all lines", marks=pytest.mark.slow)]
)
def test_explain_shows_what_the_engine_receives(toy_world: World, most: int) -> None:
    """`most`: lines of the table in each language, taken from all over it."""
    for lang in f"ab{''.join(ESPEAK_LANGUAGES)}":
        texts = [text for its_lang, _, text, _ in LINES if its_lang == lang]
        texts = texts[:: -(-len(texts) // most)]
        (toy_world.path / "text.txt").write_text("\n\n".join(texts))
        code = LANGUAGES[lang][1][0]
        explained = toy_world.say("--explain", "-q", "--lang", code, "-f", "text.txt", timeout=300)
        assert explained.returncode == 0, explained.stderr
        shown = [line.strip() for line in explained.stdout.splitlines() if line.startswith("    ")]
        assert len(shown) >= len(texts) // 2
        spoken = ("-o", "out.raw", "--debug", "-q", "-s", "4", "--lang", code, "-f", "text.txt")
        done = toy_world.say(*spoken, timeout=500)
        assert done.returncode == 0, done.stderr
        assert phonemes(toy_world) == shown


@pytest.mark.parametrize("lang", ESPEAK_LANGUAGES)
def test_no_line_of_the_table_loses_its_phonemes_in_a_language_of_espeak(lang: str, tmp_path: Path) -> None:
    g2p = G2P(None, str(tmp_path))
    own = [text for its_lang, _, text, _ in LINES if its_lang == lang]
    others = [text for its_lang, _, text, _ in LINES if its_lang in "abefip"]
    texts = [*own, *others[:: max(1, len(others) // (60 - len(own)))]]
    assert len(texts) >= 50
    for text in texts:
        spoken = g2p.spoken(text, lang, read(text, lang))
        pieces = split_spoken(spoken, 510)
        assert any(map(str.isalpha, spoken.phonemes)), text
        assert "".join(piece.phonemes for piece in pieces).replace(" ", "") == spoken.phonemes.replace(" ", ""), text
        assert spoken.words and spoken.words[-1].end <= len(text)


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
def test_what_is_said_again_is_the_same_from_memory_and_from_the_engine(toy_world: World) -> None:
    def spoken(**environment: str) -> bytes:
        done = toy_world.say("-o", "out.wav", "The build is done. All is well.", timeout=200, **environment)
        assert done.returncode == 0, done.stderr
        return (toy_world.path / "out.wav").read_bytes()

    toy_world.environment |= {"KOKORO_UNTOUCHED": "0", "KOKORO_KEPT_AUDIO": "16"}
    first, again = spoken(), spoken()
    server = toy_world.status()["model_server"]
    assert server["kept_hits"] == server["kept_asked"] / 2 and server["kept_bytes"] > 0
    assert "said again" in toy_world.say("--status").stdout
    toy_world.say("--shutdown", "-q")
    assert first == again == spoken(KOKORO_KEPT_AUDIO="0")
    assert spoken(KOKORO_UNTOUCHED="1") != first


@pytest.mark.e2e
def test_a_notice_of_the_embedded_default_is_said_again_from_memory(world: World) -> None:
    world.environment |= {"KOKORO_UNTOUCHED": "0", "KOKORO_KEPT_AUDIO": "16"}
    takes = []
    for _ in range(2):
        assert world.say("-o", "out.wav", "--words", "words.json", "Tests have passed.").returncode == 0
        takes.append([(world.path / name).read_bytes() for name in ("out.wav", "words.json")])
    assert takes[0] == takes[1]
    assert world.status()["model_server"]["kept_hits"] == 1
