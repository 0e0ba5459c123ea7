"""What is said of a text chunk: its edits checked, its stretches by language, in words or for a person to read."""

from __future__ import annotations

from kokoro_common.errors import UsageError
from kokoro_common.reading.reader import read
from kokoro_common.text.chunker import MAX_SAID
from kokoro_common.text.edits import Edit, applied, merged, spelled
from kokoro_common.text.scripts import runs
from kokoro_common.text.speech import MAX_REST, MAX_VOLUME, ChunkRequest


def check_request(request: ChunkRequest) -> None:
    """Raises UsageError for edits that do not fit the text, and for a wrong gain or rest."""
    end = length = 0
    for edit in request.edits:
        length += len(edit.said)
        if not end <= edit.start < edit.end <= len(request.text) or length > MAX_SAID:
            raise UsageError(f"edits beyond text chunk {request.index}", "see docs/protocol.md")
        end = edit.end
    if not 0.0 <= request.gain <= MAX_VOLUME:
        raise UsageError(f"a gain of {request.gain}", f"choose 0 to {MAX_VOLUME:.0f}")
    if not 0.0 <= request.rest <= MAX_REST:
        raise UsageError(f"a rest of {request.rest}", f"choose 0 to {MAX_REST:.0f}")


def stretches(request: ChunkRequest) -> list[tuple[int, str, str, list[Edit]]]:
    """The text by language: start, text, the language's letter, and what is said instead of what is written.

    What its writer and the lexicon want comes first, then how numbers, signs and the like are read.
    """
    plain, lang = request.speech.plain, request.speech.lang
    # What has been given other words or phonemes is in the language of the text, whatever its script.
    text_by_script = "".join(
        "\0" if any(edit.start <= place < edit.end for edit in request.edits) else character
        for place, character in enumerate(request.text)
    )
    found = []
    for start, end, its_lang in [(0, len(request.text), lang)] if plain else runs(text_by_script, lang):
        text = request.text[start:end]
        own = [
            edit._replace(start=edit.start - start, end=edit.end - start)
            for edit in request.edits
            if start <= edit.start and edit.end <= end
        ]
        read_aloud = [] if plain else read(text, its_lang, emoji=request.speech.emoji)
        found.append((start, text, its_lang, merged(own, read_aloud)))
    return found


def in_words(request: ChunkRequest) -> list[tuple[str, str, list[tuple[int, int]]]]:
    """What is said, for an engine that takes no phonemes: the letter of a language, the words in it, and for each of
    their characters the stretch of the text that it stands for."""
    said = []
    for start, text, lang, edits in stretches(request):
        words, spans = spelled(text, edits)
        said.append((lang, words, [(start + first, start + last) for first, last in spans]))
    return said


def explained(request: ChunkRequest) -> str:
    """What is said, in words, for a person; [word](/phonemes/) where its writer or a lexicon gave phonemes."""
    return "".join(
        f"[{text[start:end]}](/{said}/)" if phonemes else said
        for _, text, _, edits in stretches(request)
        for said, start, end, phonemes in applied(text, edits)
    )
