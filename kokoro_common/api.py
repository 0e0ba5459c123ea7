"""Speech for Python programs: what `import kokoro_common as kokoro` offers. docs/python.md is its manual.

Each call reads the KOKORO_* variables and config.toml as say.py does, and uses the same servers, which it starts if
they do not run. Functions may be called from any thread, and block; `start` is the one for asyncio. What a person would
be told goes to the logger "kokoro_common": notes as warnings, the state of the model as information.

Over 400 lines: a third of them are the docstrings that a program's author reads, all in one place.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import numbers
import os
from collections.abc import Iterable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from kokoro_common.client.arriving_text import ArrivingText
from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio
from kokoro_common.client.text_source import TextSource
from kokoro_common.errors import UsageError, in_python
from kokoro_common.record import Record
from kokoro_common.settings import CALL_DEFAULTS, look_up, settings_in
from kokoro_common.sound.samples import Sound
from kokoro_common.text.defaults import call_defaults
from kokoro_common.text.lexicon_file import pronunciations
from kokoro_common.text.speech import Role, Speech, check_speech
from kokoro_common.voices.catalogue import LANGUAGES, VOICES, parse_language, parse_voice
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.messages import ChunkSpoken, Finished, Notice, Route, ServerState, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from kokoro_common.client.conversation import Event, UtteranceEvents
    from kokoro_common.recording.recording import Plan
    from kokoro_common.settings import Settings
    from kokoro_common.wire.reports import StatusReport

log = logging.getLogger("kokoro_common")

CAPTIONS = {".srt": "srt", ".vtt": "vtt", ".lrc": "lrc", ".json": "words"}  # kinds of captions by the file's extension


class SpeechOptions(TypedDict, total=False):
    """Keyword arguments that speak, start, synthesize and save have in common: how the text is spoken.

    All are optional; the user's settings stand for voice, lang, speed, volume, seed, engine, plain, emoji and untouched
    that are not given. They have the names of say.py's flags, and the fields of Speech.
    """

    voice: str  # "af_heart", a blend "af_bella:0.7,af_sky:0.3", or a voice of the user's own
    lang: str  # of the text: "en-us", "en-gb", "es" ..., or a voice's first letter; "": that of the voice
    speed: float  # 0.25 to 4; 1 is natural
    volume: float  # 0 to 2; 1 is as it is
    seed: int  # another number is another take
    engine: str  # "auto", "kokoro" (the model or an error) or "espeak" (the embedded default)
    plain: bool  # say the text as it is written: no Markdown, no tags, no rules for numbers
    ssml: bool  # the text is SSML even if it does not begin with <speak
    read_code: bool  # read the code blocks of Markdown too
    emoji: bool  # say emoji by name; False: leave them out
    untouched: bool  # the model's own samples, a sentence at a time: silence, rests and level are left alone
    dialogue: bool  # lines "NAME: text" in voices of their own
    cast: Mapping[str, str]  # NAME to VOICE; a dialogue even without `dialogue`
    lexicon: Mapping[str, str]  # WORD to what is said for it, words or /phonemes/; counts above the user's lexicon


class VoiceInfo(Record):
    """A voice that the argument `voice` may name."""

    name: str
    lang: str  # as the argument `lang` has it: "en-us"
    language: str  # in English: "American English"
    gender: str  # "female" or "male"
    own: bool = False  # one that the user has named or imported
    blend: str = ""  # what it is mixed of


# --- Speaking --------------------------------------------------------------------------------------------------------


def speak(
    text: str | Iterable[str],
    *,
    wait: bool = True,
    interrupt: bool = False,
    overlap: bool = False,
    audio_device: str | None = None,
    **options: Unpack[SpeechOptions],
) -> float:
    """Speaks through the speakers. Returns the seconds of speech that were heard.

    Blocks until all has been heard; with wait=False, until all text was handed over: it is then spoken although the
    program may end, and 0.0 is returned. Strings of an iterable are spoken as they arrive. An exception in the calling
    thread, such as KeyboardInterrupt, silences the speech.

    `interrupt`: cancels all speech before it. `overlap`: does not wait for other speech. `audio_device`: a part of its
    name; "": that of the system; None: that of the settings. `options`: how the text is spoken, see SpeechOptions.

    Raises UtteranceCancelled if somebody stops it, NoAudioDevice, ModelUnavailable, ServersUnreachable; UsageError and
    UnknownVoice for values that make no sense.
    """
    return _finish(_request(text, options, _speakers(wait, interrupt, overlap, audio_device)))


def start(
    text: str | Iterable[str],
    *,
    interrupt: bool = False,
    overlap: bool = False,
    audio_device: str | None = None,
    **options: Unpack[SpeechOptions],
) -> Speaking:
    """Speaks on a thread of its own, and returns at once. The Speaking can be waited for and cancelled.

    Takes the arguments of `speak`, and raises its UsageError and UnknownVoice; other errors are those of the result.
    When the program ends, so does the speech.
    """
    request = _request(text, options, _speakers(True, interrupt, overlap, audio_device))
    return _on_thread(request, lambda: _finish(request))


class Speaking(concurrent.futures.Future[float]):
    """Speech under way: a future whose result is the seconds of speech that were heard.

    `await asyncio.wrap_future(speaking)` waits for it in asyncio; cancelling the task cancels the speech.
    """

    def __init__(self, request: _Request) -> None:
        super().__init__()
        self._utterance = request.utterance
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Silences the speech, or keeps it from beginning. Returns whether it had not ended.

        From any thread; does not wait. `result()` raises UtteranceCancelled, unless the speech has just ended.
        """
        under_way = not self.done()
        if under_way:
            self._utterance.cancel()
        return under_way


# --- Audio -----------------------------------------------------------------------------------------------------------


def synthesize(text: str | Iterable[str], **options: Unpack[SpeechOptions]) -> SoundStream:
    """Returns an iterator of the text's audio: a Sound for each sentence or clause, and each pause.

    Nothing begins before the first one is asked for. Raises UsageError and UnknownVoice; other KokoroErrors come from
    the iterator.
    """
    return SoundStream(_request(text, options, Route(sink="client", words=True)))


class SoundStream:
    """Sounds in the order of the text. For one thread, except `cancel`.

    `next()` blocks until the audio of the next text chunk is there, and raises KokoroErrors. The servers work a few
    seconds ahead and then wait for the program. Leaving the loop or the `with` block, or dropping the iterator, cancels
    the rest.
    """

    def __init__(self, request: _Request) -> None:
        self._utterance = request.utterance
        self._sounds = _sounds(request)  # does not refer to us, so dropping us closes it

    def __iter__(self) -> SoundStream:
        return self

    def __next__(self) -> Sound:
        return next(self._sounds)

    def __enter__(self) -> SoundStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels the rest, and ends the iteration. Idempotent; for the thread that iterates."""
        self._sounds.close()

    def cancel(self) -> None:
        """Lets the iterating thread raise UtteranceCancelled, from any thread. Does not wait."""
        self._utterance.cancel()


def save(
    text: str | Iterable[str],
    path: str | os.PathLike[str],
    *,
    captions: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    title: str = "",
    author: str = "",
    sample_rate: int | None = None,
    bit_depth: int | None = None,
    **options: Unpack[SpeechOptions],
) -> float:
    """Writes a file of .wav .flac .ogg .opus .mp3 .m4a .m4b or .raw. Returns its seconds. Blocks until it is complete.

    `captions`: files of .srt .vtt .lrc or .json for the same audio. The files appear under their names when they are
    complete, in place of older ones; after an exception, or with nothing to speak, there are none. `title` and `author`
    are tags. `sample_rate`, in Hz, and `bit_depth` are 24,000 and 16 if they are not given.

    Raises OutputError, ModelUnavailable, ServersUnreachable; UsageError and UnknownVoice for values that make no sense.
    """
    from kokoro_common.recording.formats import form_for
    from kokoro_common.recording.recording import Plan

    output = os.fspath(path)
    if output == "-":
        raise UsageError("- is no name of a file", "use synthesize, or name the file ./-")
    rate = None if sample_rate is None else _checked("sample_rate", sample_rate, int)
    depth = None if bit_depth is None else _checked("bit_depth", bit_depth, int)
    plan = Plan(
        output=output,
        form=form_for(output, rate, depth),
        captions=_caption_files(output, captions),
        title=_checked("title", title, str),
        artist=_checked("author", author, str),
    )
    request = _request(text, options, Route(sink="client", words=True, together=True))
    # Not on this thread: in the encoders' callbacks KeyboardInterrupt would be lost.
    writing = _on_thread(request, lambda: _write(request, plan))
    try:
        return writing.result()
    finally:
        writing.cancel()
        concurrent.futures.wait([writing])


# --- Everything else -------------------------------------------------------------------------------------------------


def list_voices() -> list[VoiceInfo]:
    """All voices, the user's own last. Asks no server."""
    own = own_voices(_settings(strict=False).config_dir)
    return [
        VoiceInfo(
            name=name,
            lang=LANGUAGES[name[0]][1][0],
            language=LANGUAGES[name[0]][0],
            gender="female" if name[1] == "f" else "male",
            own=name in own,
            blend=own.get(name, ""),
        )
        for name in (*VOICES, *own)
    ]


def stop() -> int:
    """Cancels all speech of this user, of other programs too; what is written to files or samples goes on.

    Returns how many utterances that were. Starts no server. Blocks for 4 s at most, usually for milliseconds.
    """
    return Client(_settings(strict=False)).control(Stop())


def status() -> StatusReport:
    """What the servers do: `speaking`, `waiting`, `writing`, `voice_servers`, and `model_server`, None if none runs.

    Starts no server. Blocks for 4 s at most, usually for milliseconds.
    """
    return Client(_settings(strict=False)).status().told(in_python)


# --- From arguments to an utterance ----------------------------------------------------------------------------------


def _settings(*, strict: bool = True) -> Settings:
    """Of this moment. Raises UsageError for values that do not fit; unless `strict`, these are logged."""
    found = look_up()
    settings, problems = settings_in(found)
    if problems and strict:
        raise problems[0]
    for line in (*map(str, problems), found.note):
        _tell_once(line)
    return settings


@functools.cache
def _tell_once(line: str) -> None:
    """A process that speaks a thousand times is told once."""
    if line:
        log.warning("%s", line)


class _Request(NamedTuple):
    source: TextSource
    utterance: UtteranceEvents


def _request(text: str | Iterable[str], options: SpeechOptions, route: Route) -> _Request:
    """An utterance that has not begun. Raises UsageError, UnknownVoice; TypeError for what is no text."""
    if isinstance(text, (bytes, bytearray)) or not isinstance(text, Iterable):
        raise TypeError(f"the text has to be a str or an iterable of str, not {type(text).__name__}")
    source = TextSource(text) if isinstance(text, str) else ArrivingText(text)
    settings = _settings()
    speech = _speech(settings, text if isinstance(text, str) else None, dict(options))
    client = Client(settings)
    if client.note:
        log.info("%s", client.note)
    return _Request(source, client.speak(source, speech, route.replace(debug=settings.debug)))


def _speakers(wait: bool, interrupt: bool, overlap: bool, audio_device: str | None) -> Route:
    wait, interrupt, overlap = (
        _checked(name, value, bool) for name, value in (("wait", wait), ("interrupt", interrupt), ("overlap", overlap))
    )
    if interrupt and overlap:
        raise UsageError("interrupt does not go with overlap", "choose one")
    floor = "interrupt" if interrupt else "overlap" if overlap else "queue"
    if audio_device is None:
        others = [name for name in CALL_DEFAULTS if name != "audio_device"]
        audio_device = call_defaults({}, {}, chosen=others).audio_device
    return Route(floor=floor, audio_device=_checked("audio_device", audio_device, str), wait=wait)


def _speech(settings: Settings, text: str | None, options: dict[str, Any]) -> Speech:
    """`text`: None if it is not known yet."""
    if unknown := options.keys() - SpeechOptions.__annotations__.keys():
        raise TypeError(f"there is no keyword argument {', '.join(sorted(unknown))}")
    given = {name: _checked(name, value, type(getattr(Speech, name))) for name, value in options.items()}
    own = own_voices(settings.config_dir)
    marked = any(given.get(name) for name in ("ssml", "read_code", "dialogue", "cast"))  # so the text is not plain
    defaults = call_defaults({"plain": "0" if marked else None}, own, chosen=given.keys())
    voice = parse_voice(given["voice"], own).name if "voice" in given else defaults.voice
    lang = (
        parse_language(given["lang"])
        if given.get("lang")
        else voice[0]
        if given.keys() & {"voice", "lang"}
        else defaults.lang
    )
    cast = {name.strip(): parse_voice(part, own).name for name, part in given.get("cast", {}).items()}
    if "" in cast:
        raise UsageError("a name of the cast is empty", "give a dict of NAME and VOICE")
    derived = {
        "voice": voice,
        "lang": lang,
        "dialogue": given.get("dialogue", False) or bool(cast),
        "cast": tuple(Role(name=name, voice=part) for name, part in cast.items()),
        "lexicon": pronunciations(settings.config_dir, lang, text, log.warning, given.get("lexicon")),
    }
    preferred = {name: getattr(defaults, name) for name in ("speed", "volume", "emoji", "plain", "untouched")}
    speech = Speech(**{"engine": settings.engine, "seed": settings.seed, **preferred, **given, **derived})
    check_speech(speech)
    return speech


# What an argument may be, by the type of the field in Speech. numpy's numbers are Real and Integral too.
_ACCEPTED: dict[type, tuple[type, str]] = {
    str: (str, "a string"),
    bool: (bool, "True or False"),
    float: (numbers.Real, "a number"),
    int: (numbers.Integral, "a whole number"),
    tuple: (Mapping, "a dict of strings"),
}


def _checked(name: str, value: Any, kind: type) -> Any:
    """The value of an argument as messages have it, of that type. Raises UsageError."""
    accepted, expected = _ACCEPTED[kind]
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if fits and kind is tuple:
        fits = all(isinstance(part, str) for item in value.items() for part in item)
    if not fits:
        raise UsageError(f"{name} is {value!r}", f"give {expected}")
    return value if kind is tuple else kind(value)


def _caption_files(
    output: str, captions: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
) -> tuple[tuple[str, str], ...]:
    """Kinds and paths. Raises UsageError for an unknown extension, and for one file that would be two things."""
    from kokoro_common.recording.outfile import identity

    paths = [os.fspath(each) for each in ([captions] if isinstance(captions, (str, os.PathLike)) else captions)]
    kinds = [CAPTIONS.get(os.path.splitext(path)[1].lower(), "") for path in paths]
    if unknown := next((path for path, kind in zip(paths, kinds, strict=True) if not kind), None):
        raise UsageError(f"{unknown!r} has no known kind of captions", f"name it {', '.join(CAPTIONS)}")
    files = [identity(path) for path in (output, *paths)]
    if twice := next((path for path in files if files.count(path) > 1), None):
        raise UsageError(f"{twice} cannot be two things at once", "give each file a name of its own")
    return tuple(zip(kinds, paths, strict=True))


# --- From an utterance to its result ---------------------------------------------------------------------------------


def _events(request: _Request) -> Generator[Event, None, None]:
    """All events, logged. None if there is nothing to speak. Closing it cancels what has not ended."""
    if not request.source.readable:
        return
    state = ""
    with contextlib.ExitStack() as stack:
        if isinstance(request.source, ArrivingText):
            stack.enter_context(request.source)
        stack.enter_context(request.utterance)
        for event in request.utterance:
            if isinstance(event, Notice):
                log.warning("%s", in_python(event.text))
            elif isinstance(event, ServerState) and event.state != state:
                state = event.state
                log.info("the model: %s %s", event.state, in_python(event.detail))
            yield event


def _finish(request: _Request) -> float:
    """Takes all events. Returns the seconds of audio. Blocks."""
    seconds = 0.0
    with contextlib.closing(_events(request)) as events:
        for event in events:
            if isinstance(event, Finished):
                seconds = event.seconds
    return seconds


def _sounds(request: _Request) -> Generator[Sound, None, None]:
    import numpy as np

    parts: list[bytes] = []
    with contextlib.closing(_events(request)) as events:
        for event in events:
            if isinstance(event, Audio):
                parts.append(event.pcm)
            elif isinstance(event, ChunkSpoken):  # all of its audio has come
                samples = np.frombuffer(b"".join(parts), "<f4").astype(np.float32)  # a copy, which may be written to
                parts.clear()
                yield Sound(samples=samples, text=event.text, words=event.words)


def _write(request: _Request, plan: Plan) -> float:
    from kokoro_common.recording.recording import Recording

    recording = Recording(plan)
    try:
        with contextlib.closing(_events(request)) as events:
            for event in events:
                recording.take(event)
        recording.finish(lambda _: None)
    except BaseException:
        recording.abandon()
        raise
    return recording.seconds


def _on_thread(request: _Request, work: Callable[[], float]) -> Speaking:
    """The future of work that cancelling the request's utterance ends."""
    speaking = Speaking(request)

    def run() -> None:
        try:
            speaking.set_result(work())
        except BaseException as error:
            speaking.set_exception(error)

    Thread(target=run, name="speech", daemon=True).start()
    return speaking
