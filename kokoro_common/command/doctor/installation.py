"""Checks of --doctor: Python and its packages, the sound device, text to phonemes, the compiled kernel."""

from __future__ import annotations

import re
import sys
import tempfile

from kokoro_common import __version__
from kokoro_common.command.doctor.files import pinned
from kokoro_common.command.doctor.findings import SENTENCE, counted
from kokoro_common.errors import KokoroError, ModelUnavailable, NoAudioDevice
from kokoro_common.installed import add_extra, install_again, mend, pip

# Everything else is imported by the check that uses it: a module that cannot be imported is a finding, too.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.settings import Settings

PYTHON = ">=3.11"
# The dependencies of pyproject.toml, which is not there once the project is installed. kokoro itself is never run.
REQUIRED = (
    "av>=15",
    "misaki[en]>=0.9.4,<0.10",
    "torch>=2.10",
    "espeakng-loader>=0.2.4",
    "huggingface_hub>=2.4,<3",
    "lxml>=5",
    "msgspec>=0.20",
    "num2words>=0.5.14",
    "numpy>=2.0",
    "psutil>=6.0",
    "pypdfium2>=5",
    "sounddevice>=0.5.1",
    "soundfile>=0.13",
    "soxr>=0.5",
)
EXTRAS = {"ja": ("fugashi", "jaconv", "mojimoji", "unidic_lite"), "zh": ("jieba", "pypinyin", "cn2an", "ordered_set")}
IMPORTED = (
    "numpy",
    "msgspec",
    "soundfile",
    "soxr",
    "psutil",
)  # quick ones with binary parts; others below do the rest


def packages(_: Settings) -> str:
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    python = sys.version.split()[0]
    if not _fits(python, PYTHON):
        raise KokoroError(f"Python is {python}", f"install Python {PYTHON}")
    wrong, unfit, found = [], [], {}
    for requirement in REQUIRED:
        name, bounds = _parsed(requirement)
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            problem = "is missing"
        else:
            problem = "" if _fits(found[name], bounds) else f"is {found[name]}"
        if not problem and find_spec(name.replace("-", "_")) is None:
            problem = "is damaged"
        if problem:
            wrong.append(f"{name} {problem}")
            unfit.append(requirement)
    if wrong:
        raise KokoroError(", ".join(wrong), f"run {pip('install', *unfit)}")
    for name in IMPORTED:
        try:
            import_module(name)
        except (ImportError, OSError) as error:
            raise KokoroError(f"{name} cannot be used: {error}", f"run {mend(name)}") from error
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", "misaki"))
    return f"kokoro-say {__version__}, Python {python}, {versions}"


def _parsed(requirement: str) -> tuple[str, str]:
    """Name of the distribution, and its bounds."""
    match = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", requirement)
    assert match is not None
    return match[1], match[2]


def _fits(version: str, bounds: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]

    for operator, bound in re.findall(r"(>=|<)([\d.]+)", bounds):
        if (numbers(version) < numbers(bound)) == (operator == ">="):
            return False
    return True


def sound(_: Settings) -> str:
    from ctypes.util import find_library

    # Without any device of ALSA's the player does not get as far as asking for PortAudio.
    if sys.platform == "linux" and find_library("portaudio") is None:
        raise NoAudioDevice("PortAudio is missing", "install libportaudio2")
    import numpy as np

    from kokoro_common.sound.player import Player
    from kokoro_common.sound.portaudio import PortAudioStream, devices
    from kokoro_common.sound.samples import SAMPLE_RATE

    names = devices()
    player = Player(PortAudioStream)
    player.begin()
    player.feed(np.zeros(SAMPLE_RATE // 20, np.float32))
    player.finish()
    player.play()
    return f"{counted(len(names), 'output device')}; {names[0]} opens and plays"


def english(settings: Settings) -> str:
    from kokoro_common.hub.download import Hub
    from kokoro_common.hub.spacy import spacy_path
    from kokoro_common.phonemes.g2p import G2P

    path = spacy_path(Hub(pinned(settings), settings.cache_dir, offline=True), lambda *_: None)
    g2p = G2P(path, tempfile.gettempdir())
    phonemes = g2p.spoken(SENTENCE, "a").phonemes
    if len(phonemes) < 20:
        raise KokoroError(f"{SENTENCE!r} has {counted(len(phonemes), 'phoneme')}", f"run {mend('misaki')}")
    quality = g2p.quality["en"]
    if path is not None and not quality.startswith("spacy"):
        raise ModelUnavailable(f"the spaCy model in {path} cannot be loaded", "remove it: the next start fetches it")
    return f"{quality}; {counted(len(phonemes), 'phoneme')} for a sentence"


def other_languages(_: Settings) -> str:
    from importlib.util import find_spec

    from kokoro_common.phonemes.g2p import G2P

    phonemes = G2P(None, tempfile.gettempdir()).spoken("El perro no come nada.", "e").phonemes
    if len(phonemes) < 10:
        problem = f"a Spanish sentence has {counted(len(phonemes), 'phoneme')}"
        raise KokoroError(problem, f"run {mend('espeakng-loader')}")
    absent = [extra for extra, modules in EXTRAS.items() if not all(map(find_spec, modules))]
    notes = [f"{extra} by {add_extra(extra)}" for extra in absent]
    return "; ".join([f"espeak-ng speaks es fr hi it pt-br{'' if absent else ', and ja zh are there'}", *notes])


def kernel(_: Settings) -> str:
    """Never a problem: without the kernel speech works, at half the speed or less."""
    from kokoro_common.engine import kernel

    library, problem = kernel.load()
    if library is None:
        return f"not used, so the model takes longer: {problem}; with a C compiler run {install_again()}"
    return f"compiled for this processor{', bf16 on its matrix unit' if kernel.has_bf16(library) else ''}"
