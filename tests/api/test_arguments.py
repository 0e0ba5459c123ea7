"""From keyword arguments to the record of how a text is spoken. No server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kokoro_common as kokoro
import say  # noqa: F401 - registers the flags
from kokoro_common import api
from kokoro_common.command import speak as command
from kokoro_common.command.arguments import parser
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Pronunciation, Speech

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = "Alice sat in Reading."


@pytest.fixture(autouse=True)
def no_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"KOKORO_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.delenv("KOKORO_ENGINE", raising=False)
    monkeypatch.chdir(tmp_path)


def speech_of(text: str | None = SHORT, **options: Any) -> Speech:
    return api._speech(resolve(), text, options)


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {}),
        (["-v", "bf_emma"], {"voice": "bf_emma"}),
        (["-v", "af_sky:0.3,af_bella:0.7"], {"voice": "af_sky:0.3,af_bella:0.7"}),
        (["--lang", "en-gb"], {"lang": "en-gb"}),
        (["--lang", "PT_BR"], {"lang": "PT_BR"}),
        (["--lang", "j"], {"lang": "j"}),
        (["-s", "1.5", "--volume", "0.5"], {"speed": 1.5, "volume": 0.5}),
        (["-s", "2"], {"speed": 2}),
        (["--seed", "7"], {"seed": np.int64(7)}),
        (["--engine", "espeak"], {"engine": "espeak"}),
        (["--plain"], {"plain": True}),
        (["--ssml", "--read-code", "--emoji", "drop"], {"ssml": True, "read_code": True, "emoji": False}),
        (["--dialogue"], {"dialogue": True}),
        (["--cast", "Alice=af_sky", "--cast", "Bob=am_adam"], {"cast": {"Alice": "af_sky", "Bob": "am_adam"}}),
    ],
)  # fmt: skip
def test_arguments_give_the_same_speech_as_the_flags(flags: list[str], options: dict[str, Any]) -> None:
    parsed = parser().parse_args([*flags, SHORT])
    own = resolve({"engine": parsed.engine, "seed": parsed.seed})
    assert speech_of(**options) == command._speech(own, command._defaults(own, parsed), parsed, None)


def test_settings_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKORO_ENGINE", "espeak")
    monkeypatch.setenv("KOKORO_SEED", "5")
    assert (speech_of().engine, speech_of().seed) == ("espeak", 5)
    assert (speech_of(engine="kokoro", seed=0).engine, speech_of(seed=0).seed) == ("kokoro", 0)


def test_what_the_user_prefers_holds_for_programs_too_unless_they_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text('voice = "bf_emma"\nspeed = 2\nemoji = "drop"\nplain = true\n')
    monkeypatch.setenv("KOKORO_VOLUME", "0.5")
    monkeypatch.setenv("KOKORO_AUDIO_DEVICE", "USB")
    said = speech_of()
    assert (said.voice, said.lang, said.speed, said.emoji, said.plain) == ("bf_emma", "b", 2.0, False, True)
    assert (said.volume, api._speakers(True, False, False, None).audio_device) == (0.5, "USB")
    said = speech_of(voice="af_sky", speed=1.0, volume=1.0, emoji=True, plain=False)
    assert said == Speech(voice="af_sky", lang="a")
    assert api._speakers(True, False, False, "").audio_device == ""
    assert speech_of(ssml=True).plain is False  # it has markup
    assert speech_of(lang="").lang == "b"
    monkeypatch.setenv("KOKORO_VOICE", "af_hart")
    with pytest.raises(kokoro.UnknownVoice, match=r"^KOKORO_VOICE: unknown voice 'af_hart'"):
        speech_of()
    assert speech_of(voice="af_sky").voice == "af_sky"


def test_a_name_that_is_no_setting_is_one_warning_of_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KOKORO_VIOCE", "af_sky")
    for _ in range(3):
        assert kokoro.list_voices()
    assert [record.message for record in caplog.records] == [
        "KOKORO_VIOCE is not a setting; did you mean KOKORO_VOICE?"
    ]


def test_a_given_pronunciation_counts_above_the_files(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "lexicon").write_text("alice = from the user\n[en-us]\nreading = from the user's English\n")
    (tmp_path / ".kokoro-lexicon").write_text("alice = from the project\n[en-us]\nsat = from the project's English\n")
    said = {each.word: each.said for each in speech_of(lexicon={"alice": "A. L.", "sat": "/sæt/"}).lexicon}
    assert said == {"alice": "A. L.", "sat": "/sæt/", "reading": "from the user's English"}


def test_with_a_text_only_its_words_go_along_and_all_of_them_with_one_that_arrives() -> None:
    lexicon = {"Alice": "A. L.", "Bob": "B."}
    assert speech_of(lexicon=lexicon).lexicon == (Pronunciation(word="Alice", said="A. L."),)
    assert len(speech_of(None, lexicon=lexicon).lexicon) == 2


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"voice": "nobody"}, kokoro.UnknownVoice, "unknown voice 'nobody'"),
        ({"voice": ""}, kokoro.UnknownVoice, "unknown voice"),
        ({"voice": None}, kokoro.UsageError, "voice is None; give a string"),
        ({"lang": "klingon"}, kokoro.UsageError, "en-us, en-gb"),
        ({"speed": 9}, kokoro.UsageError, "speed is 9.0; choose 0.25 to 4.0"),
        ({"speed": float("nan")}, kokoro.UsageError, "speed is nan"),
        ({"speed": "fast"}, kokoro.UsageError, "speed is 'fast'; give a number"),
        ({"speed": True}, kokoro.UsageError, "speed is True; give a number"),
        ({"volume": -1}, kokoro.UsageError, "volume is -1.0"),
        ({"seed": 1.5}, kokoro.UsageError, "seed is 1.5; give a whole number"),
        ({"engine": "steam"}, kokoro.UsageError, "choose one of auto, kokoro, espeak"),
        ({"plain": "no"}, kokoro.UsageError, "plain is 'no'; give True or False"),
        ({"cast": {"Alice": "nobody"}}, kokoro.UnknownVoice, "nobody"),
        ({"cast": {" ": "af_sky"}}, kokoro.UsageError, "a name of the cast is empty"),
        ({"cast": [("Alice", "af_sky")]}, kokoro.UsageError, "give a dict of strings"),
        ({"cast": {f"N{number}": "af_sky" for number in range(101)}}, kokoro.UsageError, "at most 100"),
        ({"lexicon": {"word": "/ß/"}}, kokoro.UsageError, "is no phoneme"),
        ({"lexicon": {"word": 1}}, kokoro.UsageError, "give a dict of strings"),
        ({"sped": 2}, TypeError, "there is no keyword argument sped"),
    ],
)
@pytest.mark.parametrize("call", ["speak", "start", "synthesize", "save"])
def test_wrong_values_are_raised_by_the_call(
    call: str, options: dict[str, Any], error: type[Exception], problem: str, tmp_path: Path
) -> None:
    function: Callable[..., object] = getattr(kokoro, call)
    with pytest.raises(error, match=problem):
        function("Hello.", *(["x.wav"] if call == "save" else []), **options)
    assert not any(path.suffix == ".wav" for path in tmp_path.iterdir())


@pytest.mark.parametrize("text", [b"bytes", None, 42])
def test_what_is_no_text_is_a_type_error(text: Any) -> None:
    with pytest.raises(TypeError, match="the text has to be a str or an iterable of str"):
        kokoro.synthesize(text)


@pytest.mark.parametrize(
    ("path", "options", "problem"),
    [
        ("x.doc", {}, "no known audio format"),
        ("x.mp3", {"sample_rate": 12345}, "no sample rate of 12345"),
        ("x.mp3", {"bit_depth": 24}, "no bit depth of 24"),
        ("x.wav", {"captions": "x.txt"}, "'x.txt' has no known kind of captions; name it .srt"),
        ("x.wav", {"captions": ["x.srt", "./x.srt"]}, "cannot be two things at once"),
    ],
)
def test_wrong_files_are_usage_errors(path: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(kokoro.UsageError, match=problem):
        kokoro.save("Hello.", path, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kokoro.speak("x", audio_device=3),  # type: ignore[arg-type]
        lambda: kokoro.speak("x", wait=0),  # type: ignore[arg-type]
        lambda: kokoro.start("x", interrupt="yes"),  # type: ignore[arg-type]
        lambda: kokoro.save("x", "x.wav", title=5),  # type: ignore[arg-type]
        lambda: kokoro.save("x", "x.wav", sample_rate="48000"),  # type: ignore[arg-type]
        lambda: kokoro.save("x", "-"),
    ],
)
def test_arguments_of_another_type_are_usage_errors(call: Callable[[], object]) -> None:
    with pytest.raises(kokoro.UsageError):
        call()


def test_interrupt_and_overlap_exclude_each_other() -> None:
    with pytest.raises(kokoro.UsageError, match="interrupt does not go with overlap"):
        kokoro.start("Hello.", interrupt=True, overlap=True)


def test_nothing_to_speak_needs_no_server(tmp_path: Path) -> None:
    assert (kokoro.speak(" \n"), kokoro.start("").result(10), list(kokoro.synthesize(""))) == (0.0, 0.0, [])
    assert kokoro.save("", tmp_path / "x.wav") == 0.0
    assert not (tmp_path / "x.wav").exists()
    assert (kokoro.stop(), kokoro.status().model_server) == (0, None)


def test_voices_are_listed_with_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "config" / "voices").mkdir(parents=True)
    (tmp_path / "config" / "voices" / "bm_mine.blend").write_text("bm_lewis:0.5,bm_daniel:0.5\n")
    voices = {voice.name: voice for voice in kokoro.list_voices()}
    assert len(voices) == 55
    heart = voices["af_heart"]
    assert (heart.lang, heart.language, heart.gender, heart.own, heart.blend) == (
        "en-us", "American English", "female", False, ""
    )  # fmt: skip
    mine = list(voices.values())[-1]
    assert (mine.name, mine.lang, mine.gender, mine.own, mine.blend) == (
        "bm_mine", "en-gb", "male", True, "bm_lewis:0.5,bm_daniel:0.5"
    )  # fmt: skip
    assert all(speech_of(voice=name, lang=voice.lang).lang == name[0] for name, voice in voices.items())
