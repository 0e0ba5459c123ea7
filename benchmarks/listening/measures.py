"""What is measured of each clip, and what is certainly broken. Figures are plain records, which JSON takes."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.listening import acoustics
from benchmarks.listening.acoustics import AUDIBLE, SOUNDING, SPEAKING, Span
from benchmarks.listening.hearing import Hearing
from benchmarks.listening.speakers import OURS, UNTOUCHED, Clip, NoLanguage, Speaker
from benchmarks.listening.words import Text, Word, distance, errors, kind_of, mark_after, plain_words, read_texts

if TYPE_CHECKING:
    from benchmarks.listening.acoustics import Samples

Figures = dict[str, Any]

COMMON_LEVEL = -24.0  # LUFS, that all voices are to have
SHORTEST_HOLE = 0.15  # seconds: the closures of stops are shorter
ONSET_MARK = "*"  # in texts.tsv, in front of a word whose onset can be seen


def shape(clip: Clip) -> Figures:
    """All that needs no listener: edges, pauses by mark, holes within sentences, clicks."""
    samples = clip.samples
    spoken = acoustics.sound(samples, SPEAKING) or Span(0.0, 0.0)
    pauses, holes = silences_by_mark(samples, clip.words)
    return {
        "seconds": len(samples) / acoustics.RATE,
        "spoken": spoken.length,  # from the first to the last edge at SPEAKING
        "lead_60": acoustics.lead_in(samples, AUDIBLE),
        "lead_50": acoustics.lead_in(samples, SOUNDING),
        "tail_60": acoustics.tail(samples, AUDIBLE),
        "pauses": pauses,  # [mark, seconds], in their order
        "holes": holes,  # seconds, where the text has no mark
        "click": acoustics.loudest_click(samples),  # dBFS
    }


def silences_by_mark(samples: Samples, words: Sequence[Word]) -> tuple[list[tuple[str, float]], list[float]]:
    """Each mark between two words with the silence that is there, 0 for none; and silences that stand at no mark."""
    found = acoustics.silences(samples)
    pauses, marked = [], []
    for before, after in itertools.pairwise(words):
        if mark := mark_after(before):
            silence = acoustics.silence_between(found, before.end, after.start)
            pauses.append((mark, silence.length if silence else 0.0))
            marked.append(silence)
    holes = [each.length for each in found if each not in marked and each.length >= SHORTEST_HOLE]
    return pauses, holes


def within_sentences(figures: Figures) -> float:
    """The longest silence that is neither at the end of a sentence nor between paragraphs."""
    clauses = [seconds for mark, seconds in figures["pauses"] if kind_of(mark) == "clause"]
    return max([*clauses, *figures["holes"]], default=0.0)


# --- What is certainly broken ----------------------------------------------------------------------------------------

MOST_WRONG = 0.05  # of the words
LONGEST_LEAD = 0.100  # seconds to the SOUNDING edge
PAUSES = (0.15, 0.70)  # seconds between two sentences; a silence within one may have as much as the longest
MOST_OFF = 2.0  # LU from the common level


def broken(clips: Sequence[Figures]) -> list[str]:
    """What is wrong with these clips, in words; nothing is said of what is merely not as good as it could be."""
    faults = []
    wrong, of = sum(clip["wrong"] for clip in clips), sum(clip["of"] for clip in clips)
    if wrong > MOST_WRONG * of:
        faults.append(f"{wrong} of {of} words are wrong")
    for clip in clips:
        where = f"{clip['voice']}, {clip['text'][:30]!r}"
        if clip["lead_50"] > LONGEST_LEAD + 1e-9:
            faults.append(f"{where}: {clip['lead_50']:.2f} s to the first sound")
        for mark, seconds in clip["pauses"]:
            if kind_of(mark) == "sentence" and not PAUSES[0] <= round(seconds, 3) <= PAUSES[1]:
                faults.append(f"{where}: {seconds:.2f} s between sentences")
        if round(within_sentences(clip), 3) > PAUSES[1]:
            faults.append(f"{where}: {within_sentences(clip):.2f} s of silence within a sentence")
    for voice in dict.fromkeys(clip["voice"] for clip in clips):
        level = statistics.median(clip["loudness"] for clip in clips if clip["voice"] == voice)
        if abs(level - COMMON_LEVEL) > MOST_OFF:
            faults.append(f"{voice}: {level:.1f} LUFS instead of {COMMON_LEVEL:.0f}")
    return faults


# --- Rounds ----------------------------------------------------------------------------------------------------------

Tell = Callable[[str], None]


class Job(NamedTuple):
    """A clip to be made."""

    speaker: Speaker
    voice: str
    text: Text
    english: Text | None = None  # to be spoken instead where the voice's language cannot be had

    def speak(self, path: Path) -> Clip:
        try:
            return self.speaker.speak(self.text.text, self.voice, path)
        except NoLanguage:
            if self.english is None:
                raise
            return self.speaker.speak(self.english.text, self.voice, path, lang="en-us")


def turns(speakers: Iterable[Speaker], voices: Sequence[str], texts: Sequence[Text]) -> list[Job]:
    return [Job(speaker, voice, text) for speaker in speakers for voice in voices for text in texts]


def speech(jobs: Sequence[Job], wanted: Sequence[str], tell: Tell) -> list[Figures]:
    """Each clip made, measured and, as far as `wanted`, listened to: first all are made, then all are heard."""
    records = []
    with tempfile.TemporaryDirectory(prefix="kokoro-listen-") as directory:
        clips: list[tuple[Figures, Text, Path]] = []
        for number, job in enumerate(jobs):
            clip = job.speak(Path(directory) / f"{number}.wav")
            said = {"speaker": job.speaker.name, "voice": job.voice, "kind": job.text.kind, "text": job.text.text}
            clips.append(({**said, **shape(clip)}, job.text, clip.path))
            if (number + 1) % 20 == 0:
                tell(f"{number + 1} of {len(jobs)} clips spoken")
        with Hearing() as hearing:
            for number, (record, text, path) in enumerate(clips):
                heard = hearing.listen(path, *wanted)
                if "text" in heard:
                    heard["heard"] = heard.pop("text")  # "text" is what should have been said
                    heard |= errors(text, heard["heard"])._asdict()
                records.append({**record, **heard})
                if (number + 1) % 20 == 0:
                    tell(f"{number + 1} of {len(jobs)} clips heard")
    return records


def levels(speakers: Sequence[Speaker], voices: Sequence[str], tell: Tell) -> list[Figures]:
    """Three sentences of its own language by each voice: how loud, and how long until the first sound."""
    english = read_texts("level-a")
    jobs = [
        Job(speaker, voice, text, instead)
        for voice in voices  # voice by voice, so that its server need not stay
        for speaker in speakers
        for text, instead in zip(read_texts(f"level-{'a' if voice[0] == 'b' else voice[0]}"), english, strict=True)
    ]
    return speech(jobs, ["loudness"], tell)


def word_times(speakers: Sequence[Speaker], voices: Sequence[str], tell: Tell) -> list[Figures]:
    """How far the times that are told for words are from where the words can be seen to begin."""
    records = []
    with tempfile.TemporaryDirectory(prefix="kokoro-listen-") as directory:
        for speaker, voice, text, _ in turns(speakers, voices, read_texts("onset")):
            clip = speaker.speak(text.text.replace(ONSET_MARK, ""), voice, Path(directory) / "clip.wav")
            for kind, word, error in onsets(clip, text.text):
                records.append({"speaker": speaker.name, "voice": voice, "kind": kind, "word": word, "error": error})
    tell(f"{len(records)} onsets found")
    return records


def onsets(clip: Clip, marked: str) -> Iterator[tuple[str, str, float]]:
    """Kind, word and seconds by which it is told late: of the marked words and of what follows a silence."""
    samples = clip.samples
    silences = acoustics.silences(samples)
    chosen = {number for number, word in enumerate(marked.split()) if word.startswith(ONSET_MARK)}
    for number, word in enumerate(clip.words):
        before = clip.words[number - 1] if number else None
        if before is None or (acoustics.silence_between(silences, before.end, word.start) and mark_after(before)):
            seen = acoustics.onset_after_silence(samples, word.start)
            kind = "after silence"
        elif number in chosen:
            hissing = word.word[0].lower() == "s"
            find = acoustics.onset_of_hiss if hissing else acoustics.onset_of_burst
            seen = find(samples, Span(max(word.start - 0.2, 0.0), min(word.start + 0.15, word.end)))
            kind = "s" if hissing else "p t k"
        else:
            continue
        if seen is not None:
            yield kind, word.word, word.start - seen


def soft_edges(speakers: Sequence[Speaker], voices: Sequence[str], tell: Tell) -> list[Figures]:
    """Words with soft beginnings and endings, each alone: what trimming took of them, and whether they are heard.

    Where there is no --untouched nothing is trimmed, and only the hearing counts.
    """
    named = {speaker.name: speaker for speaker in speakers}
    records = []
    with tempfile.TemporaryDirectory(prefix="kokoro-listen-") as directory, Hearing() as hearing:
        for voice in voices:
            for text in read_texts("soft"):
                clips = {
                    name: named[name].speak(f"{text.text.capitalize()}.", voice, Path(directory) / f"{name}.wav")
                    for name in (UNTOUCHED, OURS)
                    if name in named
                }
                record: Figures = {"voice": voice, "word": text.text}
                for name, clip in clips.items():
                    heard = plain_words(hearing.listen(clip.path, "text")["text"])
                    record[f"{name}_heard"] = distance([text.text], heard) == 0
                if len(clips) == 2:
                    record |= acoustics.loss(clips[UNTOUCHED].samples, clips[OURS].samples)._asdict()
                records.append(record)
            tell(voice)
    return records
