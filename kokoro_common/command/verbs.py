"""The verbs that do not speak, in the order in which they are tried: help, lists, status, control, download, lexicon.

Each function returns the exit code. Imports wait until a verb runs, see arguments.py.
"""

from __future__ import annotations

import sys

from kokoro_common import __version__
from kokoro_common.command.arguments import flag, note, server_settings, verb
from kokoro_common.command.name import NAME
from kokoro_common.errors import SAY, ModelUnavailable, ServersUnreachable, UsageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from kokoro_common.wire.messages import Pause, Resume, Stop


@verb("-h", "--help", help="this; --help all has every flag", group="program", common=True)
def print_help(options: Namespace) -> int:
    from kokoro_common.command.help import help_text
    from kokoro_common.command.terminal import width_of

    print(help_text(everything=options.text == ["all"], width=width_of(1)), end="")
    return 0


@verb("--version", help="print the version", group="program", common=True)
def print_version(_: Namespace) -> int:
    print(f"kokoro-say {__version__}")
    return 0


flag("--yes", help="with --uninstall: do not ask", group="program", only_with="--uninstall")


@verb("--uninstall", help="remove what this has put on the machine; asks first", group="program")
def remove_all(options: Namespace) -> int:
    from kokoro_common.command.uninstall import uninstall

    return uninstall(server_settings(options), yes=options.yes, quiet=options.quiet)


@verb("--completion", metavar="SHELL", values=("bash", "zsh", "fish"), help="print a completion script for it",
      group="program")  # fmt: skip
def print_completion(options: Namespace) -> int:
    from kokoro_common.command.completion import SHELLS

    print(SHELLS[options.completion](), end="")
    return 0


@verb(when=lambda options: options.audio_device == "?")
def list_devices(_: Namespace) -> int:
    from kokoro_common.sound.portaudio import devices

    print("\n".join(map(shown, devices())))
    return 0


@verb("--doctor", help="check all that speech needs here", group="program", common=True)
def doctor(options: Namespace) -> int:
    """Prints each finding as soon as it is there; the exit code is that of the first problem."""
    from kokoro_common.command.doctor.examination import examine
    from kokoro_common.command.terminal import fitting

    code = 0
    for finding in examine({"device": options.device, "precision": options.precision, "engine": options.engine}):
        print(fitting(NAME.filled(finding.line), sys.stdout, 20), flush=True)
        code = code or finding.exit_code
    return code


@verb("--config", help="print each setting and where its value comes from", group="program")
def config(options: Namespace) -> int:
    """Exit code 2 if a value does not fit, which a line says."""
    from kokoro_common.command.configuration import listing
    from kokoro_common.settings import NAMES, look_up

    flags = {name: getattr(options, name, None) for name in NAMES}
    lines, right = listing(look_up({**flags, "debug": options.debug or None}))
    print(NAME.filled("\n".join(lines)))
    return 0 if right else UsageError.exit_code


# --- Voices ----------------------------------------------------------------------------------------------------------


@verb("--save-voice", metavar="NAME", help="give the blend of -v a name of its own", group="model")
def save_voice(options: Namespace) -> int:
    """Gives the blend of -v a name."""
    from kokoro_common.voices.catalogue import parse_voice
    from kokoro_common.voices.user_voices import own_voices, save_blend

    config_dir = server_settings(options, strict=False).config_dir
    own = own_voices(config_dir)
    if not options.voice:
        raise UsageError("--save-voice without -v", f"{SAY} -v af_bella:0.7,af_sky:0.3 --save-voice af_mine")
    voice = parse_voice(options.voice, own)
    if before := save_blend(config_dir, options.save_voice, voice):
        note(f"{options.save_voice} was {before} before, and is {voice.name} now", quiet=options.quiet)
    return 0


@verb("--add-voice", metavar="NAME FILE", nargs=2, help="import a voice, a .pt file", group="model", values=".pt")
def add_voice(options: Namespace) -> int:
    """Imports a voice pack, and measures how loud it is. Blocks until it has spoken a few sentences, unheard."""
    from kokoro_common.command.voice_level import measured_level
    from kokoro_common.voices.user_voices import add_pack, save_level

    config_dir = server_settings(options, strict=False).config_dir
    name = options.add_voice[0]
    if add_pack(config_dir, *options.add_voice):
        note(f"{name} was another imported voice before, which is gone", quiet=options.quiet)
    try:
        save_level(config_dir, name, measured_level(name))
    except (ModelUnavailable, ServersUnreachable) as error:
        problem = f"{name} is imported, but how loud it is could not be measured: {error.problem}"
        note(problem, f"{SAY} --add-voice again, when the model is there", quiet=options.quiet)
    return 0


flag("--list-voices", help="list the voices", group="model", common=True)


@verb(when=lambda options: options.list_voices or options.voice == "?")
def list_voices(options: Namespace) -> int:
    from kokoro_common.voices.catalogue import listing
    from kokoro_common.voices.user_voices import own_voices

    print(listing(own_voices(server_settings(options, strict=False).config_dir)))
    return 0


# --- The servers -----------------------------------------------------------------------------------------------------

flag("--json", help="with --status: as JSON", group="control", only_with="--status")


@verb("--status", help="what the servers do", group="control", common=True)
def status(options: Namespace) -> int:
    from kokoro_common.client.client import Client

    report = Client(server_settings(options, strict=False)).status().told(NAME.filled)
    if options.json:
        import json

        print(json.dumps(report.as_json(), indent=2))
    else:
        from kokoro_common.command.status import readable
        from kokoro_common.command.terminal import fitting

        print("\n".join(fitting(line, sys.stdout, 15) for line in NAME.filled(readable(report)).splitlines()))
    return 0


@verb("--shutdown", help="end all servers", group="control", common=True)
def shutdown(options: Namespace) -> int:
    from kokoro_common.client.client import Client

    ended = Client(server_settings(options, strict=False)).shutdown()
    note("the servers have ended" if ended else "no servers are running", quiet=options.quiet)
    return 0


@verb("--unload", help="free the model's memory; the next speech loads it", group="control")
def unload(options: Namespace) -> int:
    from kokoro_common.client.client import Client

    def waiting() -> None:
        note("waiting until what is being spoken or written is done", quiet=options.quiet)

    freed = Client(server_settings(options, strict=False)).unload(waiting)
    if freed is None:
        note("no servers are running", quiet=options.quiet)
    elif not freed.before:
        note("no model is loaded", quiet=options.quiet)
    else:
        sizes = f"{freed.before / 1e6:.0f} MB before, {freed.after / 1e6:.0f} MB now"
        note(f"the model's memory is free: {sizes}", quiet=options.quiet)
    return 0


@verb("--stop", help="cancel all speech", group="control", common=True)
def stop(options: Namespace) -> int:
    from kokoro_common.wire.messages import Stop

    return _control(options, Stop())


@verb("--skip", help="cancel what is being spoken", group="control")
def skip(options: Namespace) -> int:
    from kokoro_common.client.client import Client

    return _tell_effect(Client(server_settings(options, strict=False)).skip(), "skip", options)


@verb("--pause", help="pause what is being spoken", group="control", common=True)
def pause(options: Namespace) -> int:
    from kokoro_common.wire.messages import Pause

    return _control(options, Pause())


@verb("--resume", help="go on after --pause", group="control", common=True)
def resume(options: Namespace) -> int:
    from kokoro_common.wire.messages import Resume

    return _control(options, Resume())


def _control(options: Namespace, message: Stop | Pause | Resume) -> int:
    from kokoro_common.client.client import Client

    utterances = Client(server_settings(options, strict=False)).control(message)
    return _tell_effect(utterances, type(message).__name__.lower(), options)


def _tell_effect(utterances: int, name: str, options: Namespace) -> int:
    if not utterances:
        note(f"there was nothing to {name}", quiet=options.quiet)
    return 0


@verb("--download", help="fetch the model and the named voices, or all", group="model", common=True)
def download(options: Namespace) -> int:
    """Fetches the model and the named voices, or the one that speaks by default, into the cache."""
    from kokoro_common.client.client import Client
    from kokoro_common.command.progress import Messenger
    from kokoro_common.text.defaults import call_defaults
    from kokoro_common.voices.catalogue import VOICES, parse_voice
    from kokoro_common.voices.user_voices import own_voices
    from kokoro_common.wire.messages import Downloaded

    settings = server_settings(options)
    if options.text == ["all"]:
        voices = list(VOICES)
    else:
        own = {} if options.text else own_voices(settings.config_dir)
        names = options.text or [call_defaults({"voice": options.voice}, own).voice]
        parts = [part for name in names for part, _ in parse_voice(name, own).parts]
        voices = [name for name in parts if name in VOICES]  # an imported one is here already
    messenger = Messenger(quiet=options.quiet)
    try:
        for event in Client(settings).download(voices):
            if isinstance(event, Downloaded):
                messenger.end_line()
                fetched = f"the model and {', '.join(voices)}" if voices else "the model"
                messenger.notice(f"in the cache at {event.path}: {fetched}")
            else:
                messenger.hear(event)
    finally:
        messenger.end_line()
    return 0


# --- The lexicon -----------------------------------------------------------------------------------------------------


@verb(
    "--lex",
    metavar="VERB",
    values=("add", "remove", "list", "test"),
    help="pronunciations: add, remove, list or test",
    group="text",
    common=True,
)
def edit_lexicon(options: Namespace) -> int:
    """Adds, removes, lists or tries pronunciations."""
    from kokoro_common.files import working_directory
    from kokoro_common.text import lexicon, lexicon_file
    from kokoro_common.text.defaults import call_defaults
    from kokoro_common.voices.catalogue import parse_language
    from kokoro_common.voices.user_voices import own_voices

    config_dir = server_settings(options, strict=False).config_dir
    task, words = options.lex, options.text
    lang = parse_language(options.lang) if options.lang else ""
    if len(words) != {"add": 2, "remove": 1, "list": 0}.get(task, len(words)):
        usage = {"add": "--lex add WORD SAID", "remove": "--lex remove WORD", "list": "--lex list"}[task]
        raise UsageError(f"--lex {task} with {len(words)} words", f"{SAY} {usage}")
    if task == "add":
        lexicon_file.add(config_dir, words[0], words[1], lang)
    elif task == "remove":
        if not lexicon_file.remove(config_dir, words[0], lang):
            note(f"there is no entry for {words[0]}", quiet=options.quiet)
    else:
        entries = lexicon_file.load(config_dir, working_directory(), lambda line: note(line, quiet=options.quiet))
        if task == "test":
            preferred = call_defaults({"voice": options.voice, "lang": options.lang}, own_voices(config_dir))
            said = lexicon.explained(entries, preferred.lang, " ".join(words))
            print("\n".join(map(shown, said.split("\n"))))
        elif entries:
            print(lexicon_file.listing(entries))
        else:
            note("the lexicon is empty", quiet=options.quiet)
    return 0
