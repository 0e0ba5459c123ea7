"""How a text is spoken: one record, from the command line to the engine.

The client, the wire, the voice server, the model server and the identity of an unfinished render all use this record,
so a new flag is a field here, an argument in command/arguments.py, and the place that acts on it.
"""

from __future__ import annotations

from kokoro_common.errors import UsageError
from kokoro_common.record import Record
from kokoro_common.settings import ENGINES
from kokoro_common.voices.catalogue import DEFAULT_VOICE, LANGUAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.text.edits import Edit

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_VOLUME = 2.0
MAX_CAST = 100  # names that a dialogue gives voices to
MAX_REST = 4.0  # seconds between two text chunks
MAX_CHUNK_PAUSE = 60.0  # seconds of silence that one tag may ask for
MAX_PAUSES = 300.0  # seconds of silence that all tags of a text may ask for, and for each character before a tag
PAUSES_PER_CHARACTER = 0.2  # as many more: three times as long as it takes to say it


class Role(Record):
    """A speaker of a dialogue and the voice that reads their lines."""

    name: str
    voice: str  # canonical, see voices.catalogue.parse_voice


class Pronunciation(Record):
    """What is said instead of a word: words, or /phonemes/ between slashes."""

    word: str
    said: str


class Speech(Record):
    """How a text is spoken. The same text and the same Speech give the same audio, on the same servers."""

    voice: str = DEFAULT_VOICE  # canonical, see voices.catalogue.parse_voice
    lang: str = ""  # a letter of LANGUAGES; empty: the voice's own
    speed: float = 1.0  # MIN_SPEED to MAX_SPEED
    volume: float = 1.0  # factor on the samples, 0 to MAX_VOLUME
    seed: int = 0  # another number is another take
    engine: str = "auto"  # one of settings.ENGINES
    plain: bool = False  # the text is no Markdown, has no tags, and is said as it is written
    ssml: bool = False  # the text is SSML even if it does not begin with <speak
    read_code: bool = False  # code blocks of Markdown are read too
    emoji: bool = True  # emoji are said by name; False: they are left out
    untouched: bool = False  # a sentence at a time, as the engine gives it: silence, rests and level are left alone
    dialogue: bool = False  # lines "NAME: text" are spoken by the voices of the cast
    cast: tuple[Role, ...] = ()  # a name that is not in it gets a voice of its own
    lexicon: tuple[Pronunciation, ...] = ()


class ChunkRequest(Record):
    """One text chunk to be spoken. Its audio depends on nothing else but the model and the machine."""

    index: int  # in its utterance, from 0; with the seed it gives the chunk's random state
    text: str
    speech: Speech  # voice, language and speed as this chunk's markup has them; without cast and lexicon
    edits: tuple[Edit, ...] = ()  # what is said instead of stretches of the text
    gain: float = 1.0  # factor on the samples that the text's markup asks for, 0 to MAX_VOLUME
    rest: float = 0.0  # seconds from the last sound before it to its own first one, 0 to MAX_REST; 0: as it comes


class TimedWord(Record):
    """A word, where it stands in a text and when it is said. Travels as an array of four numbers."""

    _array_form = True
    start: int  # in characters of the text
    end: int  # behind its last character
    first_frame: int  # from the beginning of the audio that it belongs to
    last_frame: int  # behind its last frame


def check_speech(speech: Speech) -> None:
    """Raises UsageError for a value that makes no sense."""
    if not MIN_SPEED <= speech.speed <= MAX_SPEED:  # NaN is not in the range either
        raise UsageError(f"speed is {speech.speed}", f"choose {MIN_SPEED} to {MAX_SPEED}")
    if speech.engine not in ENGINES:
        raise UsageError(f"engine is {speech.engine!r}", f"choose one of {', '.join(ENGINES)}")
    if not 0.0 <= speech.volume <= MAX_VOLUME:
        raise UsageError(f"volume is {speech.volume}", f"choose 0 to {MAX_VOLUME:.0f}")
    if speech.lang not in LANGUAGES:
        raise UsageError(f"language is {speech.lang!r}", f"choose one of {', '.join(LANGUAGES)}")
    if len(speech.cast) > MAX_CAST:
        raise UsageError(f"the cast has {len(speech.cast)} names", f"give at most {MAX_CAST}")
