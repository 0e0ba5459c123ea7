#!/usr/bin/env python3
"""say.py: the command. Parses arguments, lets the client speak, plays the messenger, and ends with an exit code.

It imports nothing heavy: what costs more than a few milliseconds waits until a flag needs it.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import time

from kokoro_common import __version__
from kokoro_common.errors import KokoroError, OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from kokoro_common.client.client import Listener, TextSource
    from kokoro_common.command.follower import Follower
    from kokoro_common.documents.document import Document
    from kokoro_common.recording.rendering import Recording, Rendering
    from kokoro_common.settings import Settings
    from kokoro_common.text.speech import Pronunciation, Role, Speech
    from kokoro_common.wire.messages import ChunkSpoken, Finished, Route, ServerState
else:
    Listener = object  # the real one would cost --help and --version the client's imports

HELP = """\
usage: say.py [options] [TEXT ...]          speak TEXT, or what comes on standard input

  -v, --voice NAME       a voice (af_heart), a blend (af_bella:0.7,af_sky:0.3); '?' lists
  -o, --output FILE      write .wav .flac .ogg .opus .mp3 .m4a .m4b .raw instead; - is WAV to stdout
      --srt FILE  --vtt FILE  --lrc FILE  --words FILE     captions of it: subtitles, lyrics, JSON
      --split  --title X  --author X      a file per chapter (book-01.mp3); tags
      --lufs N  --sample-rate HZ  --bit-depth N            loudness, as -16; 24000; 16, 24 or 32
  -f, --file FILE        read .txt .md .html .epub .pdf; - is stdin; with -o it goes on after a stop
  -e, --echo  --follow   pass standard input through as it is spoken; show the word being heard
  -s, --speed X          0.25 to 4, 1 is natural    -r, --rate WPM   the same in words a minute
      --volume X         0 to 2, 1 is as it is      --seed N         another take (0)
      --lang CODE        language of the text: en-us en-gb es fr hi it ja pt-br zh
      --plain  --ssml    say it as it is written; it is SSML, even if it does not begin with <speak
      --read-code  --emoji drop           read code blocks too; leave emoji out (usual: names)
      --dialogue  --cast NAME=VOICE       lines "NAME: text" in voices of their own
      --explain          print what would be said and its phonemes, say nothing
      --lex add WORD SAID | remove WORD | list | test TEXT      pronunciations: sequel, /wˈɪn/
  -a, --audio-device X   part of a device's name; '?' lists
  -n, --no-wait  -i, --interrupt  --overlap   return at once; cancel what is before; speak beside it
      --stop  --skip  --pause  --resume         from any shell: all, or what is being spoken
      --engine NAME      auto, kokoro (the model or an error) or espeak (embedded default)
      --device NAME      auto, cpu, cuda or mps     --precision NAME   auto, fp32 or bf16
      --status [--json]  what the servers do        --shutdown         end all servers
      --doctor  --timing  --debug        check all; where the time went; log text, show tracebacks
      --download [VOICE ...|all]          fetch the model and voices, then return
      --list-voices  --save-voice NAME  --add-voice NAME FILE.pt   list; name the one of -v; import
  -q, --quiet            no progress, no notes      --version, -h, --help

exit codes: 0 spoken  1 other  2 usage  3 no audio device  4 model or voice cannot be had
            5 unknown voice  6 servers  7 cancelled  8 output  130 Ctrl-C
"""


CONTROL_VERBS = ("stop", "skip", "pause", "resume")
NATURAL_RATE = 175  # words a minute at speed 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "see say.py --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="say.py",
        add_help=False,
        allow_abbrev=False,
        # With a width given it does not ask the terminal, for which it would import shutil, bz2 and lzma.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    parser.add_argument("text", nargs="*")
    parser.add_argument("-v", "--voice")
    parser.add_argument("-o", "--output")
    parser.add_argument("-f", "--file")
    parser.add_argument("-e", "--echo", action="store_true")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("-s", "--speed")
    parser.add_argument("-r", "--rate")
    parser.add_argument("--volume", default="1")
    parser.add_argument("-a", "--audio-device", default="")
    parser.add_argument("-i", "--interrupt", action="store_true")
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--lang", default="")
    for value in (
        "--srt",
        "--vtt",
        "--lrc",
        "--words",
        "--title",
        "--author",
        "--lufs",
        "--sample-rate",
        "--bit-depth",
    ):
        parser.add_argument(value)
    for switch in ("--split", "--plain", "--ssml", "--read-code", "--dialogue", "--explain"):
        parser.add_argument(switch, action="store_true")
    parser.add_argument("--emoji", choices=("names", "drop"), default="names")
    parser.add_argument("--cast", action="append", default=[])
    parser.add_argument("--save-voice")
    parser.add_argument("--add-voice", nargs=2)
    parser.add_argument("--lex", choices=("add", "remove", "list", "test"))
    parser.add_argument("-n", "--no-wait", action="store_true")
    parser.add_argument("--engine")
    parser.add_argument("--device")
    parser.add_argument("--precision")
    parser.add_argument("--seed")
    for verb in CONTROL_VERBS:
        parser.add_argument(f"--{verb}", action="store_true")
    for verb in ("--status", "--json", "--shutdown", "--doctor", "--download", "--list-voices"):
        parser.add_argument(verb, action="store_true")
    for switch in ("--timing", "--debug", "--version"):
        parser.add_argument(switch, action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    _open_missing_descriptors()
    SIGNALS.catch()
    try:
        return _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its exit
        return OutputError.exit_code
    except Exception as error:
        if SIGNALS.received == signal.SIGINT:
            return 130  # numpy's import, for one, turns an interrupt into an ImportError
        if debug:
            import traceback

            traceback.print_exc()
        elif isinstance(error, KokoroError):
            print(f"say.py: {error}", file=sys.stderr)
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            print(
                "say.py: standard output cannot be written: no space left on device; free some space", file=sys.stderr
            )
            return OutputError.exit_code
        else:
            print(f"say.py: unexpected {type(error).__name__}: {error}; please report it with --debug", file=sys.stderr)
        return error.exit_code if isinstance(error, KokoroError) else 1


class _Signals:
    """Ctrl-C, SIGTERM and SIGHUP as exceptions, so that half files are cleaned up.

        with SIGNALS:  # not inside: libsndfile's callbacks would swallow an exception and damage the file

    What comes inside such a block is raised at its end.
    """

    def __init__(self) -> None:
        self.received = 0
        self._held = False

    def catch(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def __enter__(self) -> None:
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        if self.received:
            self._raise()

    def _handle(self, number: int, _frame: object) -> None:
        self.received = number
        if not self._held:
            self._raise()

    def _raise(self) -> NoReturn:
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.received)


SIGNALS = _Signals()


def _open_missing_descriptors() -> None:
    """Started with a closed stdin, stdout or stderr, we would take their numbers for sockets and locks."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - for as long as we live
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115


def _run(options: argparse.Namespace) -> int:
    if options.help:
        print(HELP, end="")
        return 0
    if options.version:
        print(f"kokoro-say {__version__}")
        return 0
    if options.audio_device == "?":
        from kokoro_common.sound.portaudio import devices

        print("\n".join(devices()))
        return 0
    if options.doctor:
        return _doctor({"device": options.device, "precision": options.precision, "engine": options.engine})
    from kokoro_common.settings import resolve

    # The servers', if they have to be started.
    settings = resolve({"device": options.device, "precision": options.precision})
    if options.list_voices or options.voice == "?" or options.save_voice or options.add_voice:
        return _voices(settings, options)
    if options.status:
        return _status(settings, as_json=options.json)
    if options.shutdown:
        return _shutdown(settings, quiet=options.quiet)
    for verb in CONTROL_VERBS:
        if getattr(options, verb):
            return _control(settings, verb, quiet=options.quiet)
    if options.download:
        return _download(settings, options.text, quiet=options.quiet)
    if options.lex:
        return _lexicon(settings, options)
    own = resolve({"engine": options.engine, "seed": options.seed, "debug": options.debug or None})
    return _speak(settings, own, options)


def _speak(settings: Settings, own: Settings, options: argparse.Namespace) -> int:
    """`settings` are for the servers, `own` for this utterance: its flags must not become everybody's."""
    began = time.monotonic()
    from kokoro_common.client.client import Client, TextSource

    if options.output and options.no_wait:
        raise UsageError("--no-wait does not go with -o", "a file is complete when say.py returns")
    _check_output(options)
    if options.follow and (options.output is not None or options.no_wait or options.echo):
        raise UsageError("--follow shows the words as they are heard", "leave out -o, -n and -e")
    if options.interrupt and options.overlap:
        raise UsageError("--interrupt does not go with --overlap", "choose one")
    if options.explain and (options.output is not None or options.no_wait or options.echo or options.follow):
        raise UsageError("--explain speaks nothing", "leave out -o, -n, -e and --follow")
    document = _document(options)
    speech = _wanted(settings, own, options, document)
    route = _route(own, options)
    if document is not None:
        _tell_other_language(document, speech, options)
    source = _source(options) if document is None else TextSource(document.text)
    if source is None or not source.readable:
        _note("nothing to speak", quiet=options.quiet)
        return 0
    messenger = _Messenger(
        quiet=options.quiet, log=os.path.join(settings.log_dir, "kokoro.log") if options.debug else ""
    )
    if options.follow:
        from kokoro_common.command.follower import Follower

        messenger.follower = Follower(source)
    finished: Finished | None = None
    try:
        output = messenger.output = _output(options, speech, document)
        if output is not None and output.fraction:
            messenger.goes_on(output)
        client = Client(settings, messenger)
        hardware = {"device": options.device or "", "precision": options.precision or ""}
        if client.note:
            messenger.notice(client.note)
        if document is not None and output is not None:
            finished = output.render(
                lambda first, engine: client.speak(
                    TextSource(document.text),
                    speech.replace(engine=engine or speech.engine),
                    route.replace(first_chunk=first),
                    **hardware,
                )
            )
        else:
            finished = client.speak(source, speech, route, **hardware)
        messenger.finish()
    except BaseException as error:
        messenger.abandon(error)
        raise
    finally:
        messenger.end_line()
        if messenger.follower is not None:
            messenger.follower.end()
    replaced = document.replaced if document is not None else source.replaced
    if replaced:
        _note("the input was not all UTF-8: what could not be read was replaced", quiet=options.quiet)
    silent = finished is not None and not finished.seconds and not (output is not None and output.seconds)
    if silent and not options.explain:
        _note("nothing to speak in this text", quiet=options.quiet)
    if finished is not None and options.timing:
        _print_timing(finished, messenger, began)
    return 0


def _wanted(settings: Settings, own: Settings, options: argparse.Namespace, document: Document | None) -> Speech:
    from kokoro_common.text.speech import MAX_VOLUME, Speech
    from kokoro_common.voices.catalogue import DEFAULT_VOICE, parse_language, parse_voice
    from kokoro_common.voices.user_voices import own_voices

    own_blends = own_voices(settings.config_dir)
    voice = parse_voice(options.voice if options.voice is not None else DEFAULT_VOICE, own_blends)
    lang = parse_language(options.lang) if options.lang else voice.lang
    return Speech(
        voice=voice.name,
        lang=lang,
        speed=_speed(options.speed, options.rate),
        volume=_number("volume", options.volume, 0.0, MAX_VOLUME),
        engine=own.engine,
        seed=own.seed,
        plain=options.plain,
        ssml=options.ssml,
        read_code=options.read_code,
        emoji=options.emoji == "names",
        dialogue=options.dialogue or bool(options.cast),
        cast=tuple(_part_of_cast(each, own_blends) for each in options.cast),
        lexicon=_pronunciations(settings, lang, document.text if document else " ".join(options.text) or None),
    )


def _route(own: Settings, options: argparse.Namespace) -> Route:
    from kokoro_common.wire.messages import Route

    return Route(
        sink="speakers" if options.output is None else "client",
        floor="interrupt" if options.interrupt else "overlap" if options.overlap else "queue",
        audio_device=options.audio_device,
        wait=not options.no_wait,
        follow=options.follow,
        debug=own.debug,
        explain=options.explain,
        words=options.output is not None,
    )


def _tell_other_language(document: Document, speech: Speech, options: argparse.Namespace) -> None:
    from kokoro_common.voices.catalogue import LANGUAGES

    spoken, tags = LANGUAGES[speech.lang]
    said = document.language.replace("_", "-").partition("-")[0].lower()
    if len(said) == 2 and said not in {tag[:2] for tag in tags}:  # a longer one is not what the tag should be
        _note(f"{options.file} is in {said!r} and read as {spoken}: see -v and --lang", quiet=options.quiet)


CAPTIONS = ("srt", "vtt", "lrc", "words")


def _check_output(options: argparse.Namespace) -> None:
    """What is said of a file is said with -o, and no two outputs are one file."""
    from kokoro_common.recording.outfile import identity, is_special

    of_file = (*CAPTIONS, "split", "title", "author", "lufs", "sample_rate", "bit_depth")
    if options.output is None:
        for name in of_file:
            if getattr(options, name):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{flag} is about a file", f"write it with -o; -o /dev/null {flag} ... writes no audio"
                )
        return
    captions = [path for name in CAPTIONS if (path := getattr(options, name))]
    files = [identity(path) for path in (options.output, *captions) if identity(path) != os.devnull]
    if options.file not in (None, "-"):
        files.append(identity(options.file))
    if twice := next((path for path in files if files.count(path) > 1), None):
        name = "the standard output" if twice == "-" else twice
        raise UsageError(f"{name} cannot be two things at once", "give each output a name of its own")
    nameless = [path for path in captions if is_special(path) and path != os.devnull]
    if options.split and (options.file in (None, "-") or nameless or is_special(options.output)):
        remedy = "say.py -f BOOK.epub --split -o BOOK.mp3 --srt BOOK.srt"
        raise UsageError("--split writes files for each chapter of a document", remedy)


def _document(options: argparse.Namespace) -> Document | None:
    """The file of -f as a whole; None for what arrives through a pipe."""
    if options.file in (None, "-") or options.text:
        return None
    from kokoro_common.documents.load import EXTRACTED, load
    from kokoro_common.recording.outfile import is_special

    extracted = os.path.splitext(options.file)[1].lower() in EXTRACTED
    if options.echo and extracted:
        raise UsageError("-e passes the text through as it is, which here is none", "leave it out")
    return None if options.echo or (is_special(options.file) and not extracted) else load(options.file)


def _output(options: argparse.Namespace, speech: Speech, document: Document | None) -> Recording | Rendering | None:
    """Where the audio goes, if not to the speakers."""
    if options.output is None:
        return None
    from kokoro_common.documents.document import Chapter, Document
    from kokoro_common.recording.encoders import form_for
    from kokoro_common.recording.outfile import is_special
    from kokoro_common.recording.rendering import Plan, Recording, Rendering

    rate, bits = _whole("sample rate", options.sample_rate), _whole("bit depth", options.bit_depth)
    plan = Plan(
        output=options.output,
        form=form_for(options.output, rate, bits),
        captions=tuple((kind, getattr(options, kind)) for kind in CAPTIONS if getattr(options, kind)),
        split=options.split,
        loudness=None if options.lufs is None else _number("loudness in LUFS", options.lufs, -70.0, -5.0),
        title=options.title or "",
        artist=options.author or "",
        resumable=document is not None and not is_special(options.output),
    )
    if not plan.resumable and plan.loudness is None:
        return Recording(plan, document)
    if document is None:
        document = Document(text="", chapters=(Chapter(title="", start=0, end=0),))
    rendering = Rendering(plan, document, speech)
    if rendering.engine and speech.engine not in ("auto", rendering.engine):
        import shlex

        rendering.abandon()
        remedy = f"leave out --engine, or begin anew: rm -r {shlex.quote(rendering.folder)}"
        raise UsageError(f"{options.output} was begun by {rendering.engine}", remedy)
    return rendering


class _Messenger(Listener):
    """Hears what happens to the utterance: writes the audio, shows the user what is waited for."""

    def __init__(self, *, quiet: bool, log: str = "") -> None:
        """`log`: where the utterance can be followed, if the user asked for that."""
        self._log = log
        self.output: Recording | Rendering | None = None
        self.follower: Follower | None = None
        self.engine = ""
        self.started_at = 0.0
        self._quiet = quiet
        self._began = 0.0  # time.monotonic() at the first audio
        self._fraction = 0.0  # of the text, that an earlier call has rendered
        self._bar = sys.stderr.isatty() and not quiet
        self._line = ""  # on the terminal now, to be overwritten
        self._last_state = ""

    def state(self, message: ServerState) -> None:
        if self._quiet or message.state in ("starting", "default", "failed"):
            return
        if message.state == "ready":
            self.end_line()
        elif message.state == "loading":
            self._show("loading the model")
        elif self._bar:
            self._show(f"downloading {message.detail} {_bar(message.fraction)}")
        elif self._last_state != message.state:
            self._show(f"downloading {message.detail}")
        self._last_state = message.state

    def notice(self, text: str) -> None:
        _note(text, quiet=self._quiet)

    def accepted(self, utterance: str) -> None:
        if self._log:
            _note(f"utterance {utterance}: grep {utterance} {self._log}", quiet=self._quiet)

    def started(self, engine: str) -> None:
        self.end_line()
        self.engine = engine
        if self.output is not None:
            self.output.begun_by(engine)
        self._began = time.monotonic()  # what comes before it, the model above all, says nothing of the rest
        self.started_at = time.monotonic()

    def progress(self, seconds: float, start: int, end: int) -> None:
        if self.follower is not None:
            self.follower.show(start, end)
        elif self._bar and self.output is not None and not self.output.fraction:
            self._show(f"{seconds:.1f} s written")

    def explained(self, text: str, phonemes: str) -> None:
        self.end_line()
        print(f"{text}\n    {phonemes}" if phonemes else text, flush=True)

    def audio(self, pcm: bytes) -> None:
        assert self.output is not None
        if self.output.encoded:
            with SIGNALS:
                self.output.write(pcm)
        else:
            self.output.write(pcm)  # perhaps into a pipe, where it may wait

    def spoken(self, chunk: ChunkSpoken) -> None:
        output = self.output
        assert output is not None
        output.add(chunk)
        if self._bar and output.fraction:
            done = output.fraction - self._fraction
            left = (time.monotonic() - self._began) * (1.0 - output.fraction) / done if done > 0.0 else 0.0
            self._show(f"{_bar(output.fraction)}  {_clock(output.seconds)} of audio, {_roughly(left)} left")

    def goes_on(self, output: Recording | Rendering) -> None:
        """The render of an earlier call, which was interrupted."""
        import shlex

        self._fraction = output.fraction
        self.notice(
            f"going on at {output.fraction:.0%}, behind {_clock(output.seconds)} of audio; "
            f"to begin anew: rm -r {shlex.quote(output.folder)}"
        )

    def finish(self) -> None:
        """All has been said."""
        if self.output is None:
            return
        if self.output.encoded:
            with SIGNALS:
                self.output.finish(self._encoding)
        else:
            self.output.finish(self._encoding)

    def _encoding(self, share: float) -> None:
        if self._bar:
            self._show(f"encoding {_bar(share)}")

    def abandon(self, error: BaseException) -> None:
        """What becomes of the output, and tells the user of it with the error."""
        self.end_line()
        if self.output is None or not self.output.abandon():
            return
        kept = f"{_clock(self.output.seconds)} of audio are kept: the same command goes on there"
        if isinstance(error, KokoroError):
            error.args = (f"{error}; {kept}",)
        else:
            self.notice(kept)

    def end_line(self) -> None:
        """Takes the progress line away."""
        if self._line:
            print(f"\r{' ' * len(self._line)}\r", end="", file=sys.stderr, flush=True)
            self._line = ""

    def _show(self, line: str) -> None:
        if self._bar:
            print(f"\r{line.ljust(len(self._line))}", end="", file=sys.stderr, flush=True)
            self._line = line
        else:
            _note(line, quiet=self._quiet)


def _bar(fraction: float) -> str:
    filled = round(fraction * 30)
    return f"[{'#' * filled}{'.' * (30 - filled)}] {fraction:4.0%}"


def _clock(seconds: float) -> str:
    return f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60 // 1:02.0f}"


def _roughly(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _voices(settings: Settings, options: argparse.Namespace) -> int:
    """Lists them, gives a blend a name, or imports a pack."""
    from kokoro_common.voices import user_voices as own_voices
    from kokoro_common.voices.catalogue import listing, parse_voice

    own = own_voices.own_voices(settings.config_dir)
    if options.save_voice:
        if not options.voice:
            raise UsageError("--save-voice without -v", "say.py -v af_bella:0.7,af_sky:0.3 --save-voice af_mine")
        own_voices.save_blend(settings.config_dir, options.save_voice, parse_voice(options.voice, own))
    elif options.add_voice:
        own_voices.add_pack(settings.config_dir, *options.add_voice)
    else:
        print(listing(own))
    return 0


def _part_of_cast(argument: str, own: dict[str, str]) -> Role:
    """NAME=VOICE."""
    from kokoro_common.text.speech import Role
    from kokoro_common.voices.catalogue import parse_voice

    name, separator, voice = argument.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"--cast {argument!r}", "write NAME=VOICE, as --cast Alice=af_bella")
    return Role(name=name.strip(), voice=parse_voice(voice.strip(), own).name)


def _pronunciations(settings: Settings, lang: str, text: str | None) -> tuple[Pronunciation, ...]:
    """What of the user's and the project's lexicon counts for the text."""
    from kokoro_common.text.lexicon import wire
    from kokoro_common.text.lexicon_file import load
    from kokoro_common.text.speech import Pronunciation

    entries = load(settings.config_dir, _working_directory())
    return tuple(Pronunciation(word=word, said=said) for word, said in wire(entries, lang, text))


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return "/"


def _lexicon(settings: Settings, options: argparse.Namespace) -> int:
    from kokoro_common.text import lexicon, lexicon_file
    from kokoro_common.voices.catalogue import DEFAULT_VOICE, parse_language

    verb, words = options.lex, options.text
    lang = parse_language(options.lang) if options.lang else ""
    if len(words) != {"add": 2, "remove": 1, "list": 0}.get(verb, len(words)):
        usage = {"add": "--lex add WORD SAID", "remove": "--lex remove WORD", "list": "--lex list"}[verb]
        raise UsageError(f"--lex {verb} with {len(words)} words", f"say.py {usage}")
    if verb == "add":
        lexicon_file.add(settings.config_dir, words[0], words[1], lang)
    elif verb == "remove":
        if not lexicon_file.remove(settings.config_dir, words[0], lang):
            _note(f"there is no entry for {words[0]}", quiet=options.quiet)
    else:
        entries = lexicon_file.load(settings.config_dir, _working_directory())
        if verb == "list" and entries:
            print(lexicon_file.listing(entries))
        elif verb == "list":
            _note("the lexicon is empty", quiet=options.quiet)
        else:
            lang = lang or (options.voice or DEFAULT_VOICE)[0]
            print(lexicon.explained(entries, lang, " ".join(words)))
    return 0


def _note(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(f"say.py: {text}", file=sys.stderr)


def _speed(speed: str | None, rate: str | None) -> float:
    from kokoro_common.text.speech import MAX_SPEED, MIN_SPEED

    if rate is None:
        return _number("speed", speed or "1", MIN_SPEED, MAX_SPEED)
    if speed is not None:
        raise UsageError("both --speed and --rate were given", "choose one")
    return _number("rate", rate, MIN_SPEED * NATURAL_RATE, MAX_SPEED * NATURAL_RATE) / NATURAL_RATE


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:  # NaN is not in the range either
        raise UsageError(f"{name} {text!r}", f"choose {least:g} to {most:g}")
    return number


def _whole(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} {text!r}", "give a whole number")
    return int(text[:9])


def _source(options: argparse.Namespace) -> TextSource | None:
    """What to speak; None when it is empty."""
    from kokoro_common.client.client import TextSource

    if options.text and options.file is not None:
        raise UsageError("both TEXT and -f were given", "choose one")
    echo = 1 if options.echo else None
    if options.echo and (options.text or options.output == "-"):
        raise UsageError("-e passes standard input through to stdout", "leave out TEXT and -o -")
    if options.text:
        source = TextSource(" ".join(options.text))
        return source if source.readable else None
    if options.file not in (None, "-"):
        try:
            if os.path.isdir(options.file):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return TextSource(fd=os.open(options.file, os.O_RDONLY | os.O_CLOEXEC), echo=echo)
        except OSError as error:
            raise UsageError(f"cannot read {options.file}: {error.strerror}", "check the name") from error
    if sys.stdin is None:
        raise UsageError("there is no text and no standard input", "give a TEXT")
    return TextSource(fd=sys.stdin.fileno(), echo=echo)


def _print_timing(finished: Finished, messenger: _Messenger, began: float) -> None:
    times = finished.timing
    first = (messenger.started_at - began) * 1000 if messenger.started_at else 0.0
    total = time.monotonic() - began
    at_work = times.get("engine", 0.0) / max(times.get("synthesis", 0.0), 1e-9)
    parts = ", ".join(f"{name} {times.get(name, 0.0) * 1000:.0f} ms" for name in ("g2p", "queue", "model"))
    print(
        f"say.py: {messenger.engine}: first audio after {first:.0f} ms ({parts}), "
        f"{finished.seconds:.2f} s of audio in {total:.2f} s, "
        f"the engine at work {at_work:.1%} of the time, {finished.underflows} underflows",
        file=sys.stderr,
    )


def _status(settings: Settings, *, as_json: bool) -> int:
    import json

    from kokoro_common.client.client import Client

    report = Client(settings).status()
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        from kokoro_common.command.status import readable

        print(readable(report))
    return 0


def _doctor(flags: dict[str, object]) -> int:
    from kokoro_common.command.doctor import examine

    code = 0
    for finding in examine(flags):
        encoding = sys.stdout.encoding or "utf-8"
        print(finding.line.encode(encoding, "replace").decode(encoding), flush=True)
        code = code or finding.exit_code
    return code


def _shutdown(settings: Settings, *, quiet: bool) -> int:
    from kokoro_common.client.client import Client

    ended = Client(settings).shutdown()
    _note("the servers have ended" if ended else "no servers are running", quiet=quiet)
    return 0


def _control(settings: Settings, verb: str, *, quiet: bool) -> int:
    from kokoro_common.client.client import Client
    from kokoro_common.wire.messages import Pause, Resume, Stop

    client = Client(settings)
    messages: dict[str, Stop | Pause | Resume] = {"stop": Stop(), "pause": Pause(), "resume": Resume()}
    if not (client.skip() if verb == "skip" else client.control(messages[verb])):
        _note(f"there was nothing to {verb}", quiet=quiet)
    return 0


def _download(settings: Settings, names: list[str], *, quiet: bool) -> int:
    from kokoro_common.client.client import Client
    from kokoro_common.voices.catalogue import DEFAULT_VOICE, VOICES, parse_voice

    if names == ["all"]:
        voices = list(VOICES)
    else:
        voices = [part for name in names or [DEFAULT_VOICE] for part, _ in parse_voice(name).parts]
    messenger = _Messenger(quiet=quiet)
    try:
        done = Client(settings, messenger).download(voices)
    finally:
        messenger.end_line()
    _note(f"in the cache at {done.path}: the model and {', '.join(voices)}", quiet=quiet)
    return 0


def command() -> NoReturn:
    """The program. Ends without the interpreter's own clean-up, a tenth of the time of a short call: all is closed."""
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # who read it has seen enough
    os._exit(code)


if __name__ == "__main__":
    command()
