"""The verb without a flag: speaks a text, or writes it to files.

1. flags that exclude each other are refused
2. the text: arguments, a document of -f, or a descriptor that is read while it is spoken
3. how it is spoken (Speech) and where it goes (Route)
4. the client speaks; the messenger hears what happens and fills the output
"""

from __future__ import annotations

import os
import time

from kokoro_common.command.arguments import flag, note, server_settings, speed_of
from kokoro_common.command.books import text_of
from kokoro_common.command.output import check_output, output_for
from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator

    from kokoro_common.client.conversation import Event, UtteranceEvents
    from kokoro_common.client.text_source import TextSource
    from kokoro_common.command.books import Listening
    from kokoro_common.command.progress import Messenger
    from kokoro_common.documents.document import Document
    from kokoro_common.settings import Settings
    from kokoro_common.text.defaults import Defaults
    from kokoro_common.text.speech import Role, Speech
    from kokoro_common.wire.messages import Finished, Route

flag("-v", "--voice", metavar="NAME", help="af_heart; a blend af_bella:0.7,af_sky:0.3; '?' lists",
     group="voice", common=True, values="voice")  # fmt: skip
flag("-s", "--speed", metavar="X", help="0.25 to 4, 1 is natural", group="voice", common=True)
flag("-r", "--rate", metavar="WPM", help="speed in words a minute, 175 is natural", group="voice")
flag("--volume", metavar="X", help="0 to 2, 1 leaves it as it is", group="voice")
flag("--lang", metavar="CODE", help="of the text: en-us en-gb es fr hi it ja pt-br zh",
     group="voice", common=True, values="language")  # fmt: skip
flag("--seed", metavar="N", help="another take, 0 is the usual one", group="voice")
flag("--untouched", action="store_true", default=None, help="the model's own samples: silence and level as they are",
     group="voice")  # fmt: skip
flag("-e", "--echo", help="pass standard input through as it is spoken", group="text", common=True)
flag("--plain", action="store_true", default=None, help="say it as it is written: no Markdown, no tags",
     group="text", common=True)  # fmt: skip
flag("--no-plain", dest="plain", action="store_false", help="read Markdown and tags, whatever the settings say",
     group="text")  # fmt: skip
flag("--ssml", help="it is SSML, even if it does not begin with <speak", group="text")
flag("--read-code", help="read blocks of code too", group="text")
flag("--emoji", metavar="names|drop", values=("names", "drop"),
     help="say emoji by name (usual), or leave them out", group="text")  # fmt: skip
flag("--dialogue", help='lines "NAME: text" in voices of their own', group="text")
flag("--cast", metavar="NAME=VOICE", action="append", default=[], help="the voice of a name in a dialogue",
     group="text")  # fmt: skip
flag("--explain", help="print what would be said and its phonemes", group="text")
flag("-n", "--no-wait", help="return at once, before it is spoken", group="playing", common=True)
flag("-i", "--interrupt", help="cancel all speech that came before", group="playing", common=True)
flag("--overlap", help="speak on top of what is being spoken", group="playing")
flag("--follow", help="show the word that is being heard", group="playing", common=True)
flag("-a", "--audio-device", metavar="X", help="part of a device's name; '?' lists",
     group="playing", common=True)  # fmt: skip
flag("--timing", help="tell where the time went", group="program")
flag("--engine", metavar="NAME", help="auto, kokoro (the model or an error) or espeak", group="model", values="engine")
flag("--device", metavar="NAME", help="where the model runs: auto, cpu, cuda or mps", group="model", values="device")
flag("--precision", metavar="NAME", help="of the model: auto, fp32 or bf16", group="model", values="precision")


def speak(options: Namespace) -> int:
    """Speaks or writes the text. Blocks until it has been heard or written; with --no-wait, until it was taken."""
    began = time.monotonic()
    from kokoro_common.settings import resolve

    settings = server_settings(options)
    # This utterance's own: the servers, which speak for others too, do not inherit them.
    own = resolve({"engine": options.engine, "seed": options.seed, "debug": options.debug or None})
    _check(options)
    defaults = _defaults(own, options)
    document, source, listening = text_of(options, settings, defaults.lang)
    speech = _speech(own, defaults, options, document)
    if document is not None:
        _tell_other_language(document, speech, options)
    if source is None or not source.readable:
        note("nothing to speak", quiet=options.quiet)
        return 0
    finished, messenger = _perform(
        settings, options, source, document, speech, _route(own, defaults, options), listening
    )
    if document.replaced if document is not None else source.replaced:
        note("the input was not all UTF-8: what could not be read was replaced", quiet=options.quiet)
    written = messenger.output is not None and messenger.output.seconds  # perhaps by an earlier call
    if finished is not None and not finished.seconds and not written and not options.explain:
        note("nothing to speak in this text", quiet=options.quiet)
    if finished is not None and options.timing:
        from kokoro_common.command.progress import print_timing

        print_timing(finished, messenger, began)
    return 0


def _perform(
    settings: Settings,
    options: Namespace,
    source: TextSource,
    document: Document | None,
    speech: Speech,
    route: Route,
    listening: Listening | None,
) -> tuple[Finished | None, Messenger]:
    """Lets the client speak, and completes the output. Gives the output up if anything goes wrong on the way."""
    from kokoro_common.client.client import Client
    from kokoro_common.client.text_source import TextSource
    from kokoro_common.command.progress import Messenger
    from kokoro_common.command.signals import SIGNALS, Suspension
    from kokoro_common.wire.messages import Finished

    SIGNALS.catch()  # from here on there may be something to clean up
    log = os.path.join(settings.log_dir, "kokoro.log") if options.debug else ""
    messenger = Messenger(quiet=options.quiet, log=log)
    if options.follow:
        from kokoro_common.command.follower import Follower

        messenger.follower = Follower(source)
    finished: Finished | None = None
    if listening is not None:
        route = route.replace(follow=True)  # tells the words, and with them the place
    try:
        output = messenger.output = output_for(options, speech, document)
        if output is not None and output.fraction:
            messenger.goes_on(output)
        client = Client(settings)
        hardware = {"device": options.device or "", "precision": options.precision or ""}
        if client.note:
            messenger.notice(client.note)
        events: UtteranceEvents | Generator[Event, None, None]
        if document is not None and output is not None:
            events = output.events(
                lambda first, engine: client.speak(
                    TextSource(document.text),
                    speech.replace(engine=engine or speech.engine),
                    route.replace(first_chunk=first),
                    **hardware,
                )
            )
        else:
            events = utterance = client.speak(source, speech, route, **hardware)
            if route.sink == "speakers":

                def pause(paused: bool) -> None:
                    messenger.suspended(paused)
                    client.pause(utterance, paused=paused)

                SIGNALS.suspend(Suspension(lambda: utterance.place is not None, pause))
        try:
            for event in events:
                messenger.hear(event)
                if listening is not None:
                    listening.hear(event)
                finished = event if isinstance(event, Finished) else None
        finally:
            events.close()  # cancels the utterance if it has not ended
        messenger.finish()
    except BaseException as error:
        messenger.abandon(error)
        raise
    finally:
        messenger.end_line()
        if messenger.follower is not None:
            messenger.follower.end(complete=finished is not None)
        if listening is not None:
            listening.end(heard_all=finished is not None)
    return finished, messenger


def _check(options: Namespace) -> None:
    """Raises UsageError for flags that exclude each other."""
    if options.output and options.no_wait:
        raise UsageError("--no-wait does not go with -o", "a file is complete when the call returns")
    check_output(options)
    elsewhere = options.output is not None or options.no_wait or options.echo
    if options.follow and elsewhere:
        raise UsageError("--follow shows the words as they are heard", "leave out -o, -n and -e")
    if options.interrupt and options.overlap:
        raise UsageError("--interrupt does not go with --overlap", "choose one")
    if options.explain and (elsewhere or options.follow):
        raise UsageError("--explain speaks nothing", "leave out -o, -n, -e and --follow")


# --- How it is spoken ------------------------------------------------------------------------------------------------


def _defaults(own: Settings, options: Namespace) -> Defaults:
    """What the flags ask for, and for the rest what the user prefers."""
    from kokoro_common.text.defaults import call_defaults
    from kokoro_common.voices.user_voices import own_voices

    names = ("voice", "volume", "lang", "audio_device", "lufs", "emoji", "untouched")
    flags = {name: getattr(options, name) for name in names}
    speed = speed_of(options.speed, options.rate)
    # A flag that is about the text's markup says that it has some.
    marked = options.ssml or options.read_code or options.dialogue or options.cast
    plain = False if marked and options.plain is None else options.plain
    return call_defaults({**flags, "speed": speed, "plain": plain}, own_voices(own.config_dir))


def _speech(own: Settings, defaults: Defaults, options: Namespace, document: Document | None) -> Speech:
    from kokoro_common.text.lexicon_file import pronunciations
    from kokoro_common.text.speech import Speech
    from kokoro_common.voices.user_voices import own_voices

    own_blends = own_voices(own.config_dir)
    text = document.text if document else " ".join(options.text) or None
    return Speech(
        voice=defaults.voice,
        lang=defaults.lang,
        speed=defaults.speed,
        volume=defaults.volume,
        engine=own.engine,
        seed=own.seed,
        plain=defaults.plain,
        untouched=defaults.untouched,
        ssml=options.ssml,
        read_code=options.read_code,
        emoji=defaults.emoji,
        dialogue=options.dialogue or bool(options.cast),
        cast=tuple(_part_of_cast(each, own_blends) for each in options.cast),
        lexicon=pronunciations(own.config_dir, defaults.lang, text, lambda line: note(line, quiet=options.quiet)),
    )


def _route(own: Settings, defaults: Defaults, options: Namespace) -> Route:
    from kokoro_common.wire.messages import Route

    return Route(
        sink="speakers" if options.output is None else "client",
        floor="interrupt" if options.interrupt else "overlap" if options.overlap else "queue",
        audio_device=defaults.audio_device,
        wait=not options.no_wait,
        follow=options.follow,
        debug=own.debug,
        explain=options.explain,
        words=options.output is not None,
        together=_is_for_later(options.output),
    )


def _is_for_later(output: str | None) -> bool:
    """Whether the audio goes to a file; somebody may listen at the end of a pipe."""
    if output is None:
        return False
    from kokoro_common.recording.outfile import is_special

    return not is_special(output)


def _part_of_cast(argument: str, own: dict[str, str]) -> Role:
    """Reads NAME=VOICE."""
    from kokoro_common.text.speech import Role
    from kokoro_common.voices.catalogue import parse_voice

    name, separator, voice = argument.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"--cast {argument!r}", "write NAME=VOICE, as --cast Alice=af_bella")
    return Role(name=name.strip(), voice=parse_voice(voice.strip(), own).name)


def _tell_other_language(document: Document, speech: Speech, options: Namespace) -> None:
    from kokoro_common.voices.catalogue import LANGUAGES

    spoken, tags = LANGUAGES[speech.lang]
    said = document.language.replace("_", "-").partition("-")[0].lower()
    if len(said) == 2 and said not in {tag[:2] for tag in tags}:  # languages have two letters; others are mistakes
        name = ", ".join(options.file or ["the text"])
        note(f"{name} is in {said!r} and read as {spoken}: see -v and --lang", quiet=options.quiet)
