"""Edges, silences, clicks and onsets in signals of which everything is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.listening import acoustics
from benchmarks.listening.acoustics import LOWEST, RATE, Span
from benchmarks.listening.measures import onsets, silences_by_mark, within_sentences
from benchmarks.listening.speakers import Clip
from benchmarks.listening.words import (
    Word,
    joined,
    kind_of,
    mark_after,
)

Samples = np.ndarray


def noise(seconds: float, level: float, seed: int = 1) -> Samples:
    """White, of an RMS in dBFS."""
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (drawn / np.sqrt(np.mean(drawn**2)) * 10 ** (level / 20)).astype(np.float32)


def tone(seconds: float, level: float, frequency: float = 200.0) -> Samples:
    times = np.arange(round(seconds * RATE)) / RATE
    return (np.sqrt(2) * 10 ** (level / 20) * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def clip(*parts: Samples) -> Samples:
    return np.concatenate(parts)


# --- Edges -----------------------------------------------------------------------------------------------------------


def test_a_level_is_the_rms_of_its_frame() -> None:
    assert acoustics.levels(noise(0.01, -40)) == pytest.approx([-40], abs=0.01)
    assert acoustics.levels(silence(0.02)) == pytest.approx([LOWEST, LOWEST])


def test_the_lead_in_ends_where_the_sound_passes_the_gate() -> None:
    samples = clip(silence(0.20), noise(0.05, -55), noise(0.30, -30), noise(0.10, -55), silence(0.15))
    assert acoustics.lead_in(samples, -60) == pytest.approx(0.20)
    assert acoustics.lead_in(samples, -50) == pytest.approx(0.25)
    assert acoustics.tail(samples, -60) == pytest.approx(0.15)
    assert acoustics.tail(samples, -50) == pytest.approx(0.25)


def test_of_a_silent_clip_all_is_lead_in() -> None:
    assert acoustics.sound(silence(0.5), -60) is None
    assert acoustics.lead_in(silence(0.5), -60) == pytest.approx(0.5)
    assert acoustics.silences(silence(0.5)) == []


def test_a_last_frame_that_is_cut_short_counts() -> None:
    samples = clip(silence(0.1), noise(0.105, -30))
    assert acoustics.tail(samples, -45) == pytest.approx(0.0, abs=1e-9)


# --- Silences and marks ----------------------------------------------------------------------------------------------


def test_a_pause_lasts_from_edge_to_edge_though_someone_breathes_in_it() -> None:
    samples = clip(silence(0.3), noise(0.5, -30), silence(0.2), noise(0.1, -50), silence(0.14), noise(0.5, -30))
    (pause,) = acoustics.silences(samples)
    assert pause == pytest.approx(Span(0.8, 1.24))
    assert acoustics.silences(samples, gate=-60, shortest=0.15) == [pytest.approx(Span(0.8, 1.0))]


def test_a_short_closure_is_no_silence() -> None:
    samples = clip(noise(0.3, -30), silence(0.03), noise(0.3, -30), silence(0.05), noise(0.3, -30))
    assert acoustics.silences(samples) == [pytest.approx(Span(0.63, 0.68))]


WORDS = [Word("When", 0.0, 0.5), Word("over,", 0.5, 1.1), Word("we", 1.3, 2.0), Word("go.", 2.0, 2.4),
         Word("Now", 3.1, 3.5), Word("then", 3.5, 4.5)]  # fmt: skip


def test_pauses_are_told_by_their_marks_and_holes_without_one() -> None:
    samples = clip(
        noise(1.0, -30), silence(0.30), noise(1.0, -30), silence(0.80), noise(0.4, -30), silence(0.20), noise(0.8, -30)
    )
    pauses, holes = silences_by_mark(samples, WORDS)
    assert pauses == [(",", pytest.approx(0.30)), (".", pytest.approx(0.80))]
    assert holes == [pytest.approx(0.20)]
    assert within_sentences({"pauses": pauses, "holes": holes}) == pytest.approx(0.30)


def test_a_mark_without_a_pause_has_one_of_no_length() -> None:
    pauses, holes = silences_by_mark(noise(4.5, -30), WORDS)
    assert pauses == [(",", 0.0), (".", 0.0)]
    assert holes == []


@pytest.mark.parametrize(
    ("word", "mark", "kind"),
    [
        (Word("go.", 0, 0), ".", "sentence"),
        (Word('gone?"', 0, 0), "?", "sentence"),
        (Word("wait…", 0, 0), "…", "sentence"),
        (Word("over,", 0, 0), ",", "clause"),
        (Word("man—", 0, 0), "—", "clause"),
        (Word("you.", 0, 0, True), "paragraph", "paragraph"),
        (Word("well-known", 0, 0), "", ""),
    ],
)
def test_marks(word: Word, mark: str, kind: str) -> None:
    assert mark_after(word) == mark
    assert kind_of(mark) == kind


def test_a_dash_alone_belongs_to_the_word_before_it() -> None:
    words = [Word("captain", 0, 1), Word("—", 1, 1.2), Word("a", 1.2, 1.3)]
    assert joined(words) == [Word("captain—", 0, 1), Word("a", 1.2, 1.3)]


# --- Clicks ----------------------------------------------------------------------------------------------------------


def test_a_fade_into_silence_does_not_click_and_a_cut_does() -> None:
    sounding = tone(0.2, -30)
    faded = sounding * np.minimum(1, np.arange(len(sounding))[::-1] / 1200).astype(np.float32)
    faded *= np.minimum(1, np.arange(len(sounding)) / 1200).astype(np.float32)
    assert acoustics.loudest_click(clip(silence(0.1), faded, silence(0.1))) < -80
    cut = sounding.copy()
    cut[-1] = 0.02
    assert acoustics.loudest_click(clip(silence(0.1), cut, silence(0.1))) == pytest.approx(-34, abs=0.1)


def test_one_sample_alone_in_silence_is_a_click() -> None:
    quiet = noise(0.4, -80)
    spike = quiet.copy()
    spike[len(spike) // 2] = 0.1
    speech = noise(0.3, -30)
    assert acoustics.loudest_click(clip(silence(0.1), speech * 0, spike)) == pytest.approx(-20, abs=0.1)
    assert acoustics.loudest_click(quiet) < -60


# --- Onsets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begins", [0.300, 0.307, 0.4125])
def test_the_onset_after_a_silence(begins: float) -> None:
    samples = clip(silence(begins), noise(0.4, -30))
    assert acoustics.onset_after_silence(samples, 0.35) == pytest.approx(begins, abs=0.005)
    assert acoustics.onset_after_silence(samples, begins + 0.4) is None


@pytest.mark.parametrize("begins", [0.400, 0.4321])
def test_the_onset_of_a_hiss_in_running_speech(begins: float) -> None:
    vowel = tone(begins, -25)
    hiss = noise(0.12, -35)
    samples = clip(vowel, hiss, tone(0.3, -25))
    assert acoustics.onset_of_hiss(samples, Span(begins - 0.15, begins + 0.2)) == pytest.approx(begins, abs=0.006)
    assert acoustics.onset_of_hiss(tone(1.0, -25), Span(0.3, 0.6)) is None


@pytest.mark.parametrize("begins", [0.500, 0.5123])
def test_the_onset_of_a_burst_is_behind_its_closure(begins: float) -> None:
    hum = tone(0.06, -50, 120.0)  # the voicing that goes on
    samples = clip(noise(begins - 0.06, -30), hum, noise(0.01, -25), noise(0.03, -45), noise(0.3, -28))
    assert acoustics.onset_of_burst(samples, Span(begins - 0.1, begins + 0.15)) == pytest.approx(begins, abs=0.005)
    assert acoustics.onset_of_burst(noise(1.0, -30), Span(0.3, 0.6)) is None


def test_word_times_are_judged_by_the_onsets(tmp_path: Path) -> None:
    """The first word is told 0.04 s late, the one that hisses 0.10 s; the unmarked one is left alone."""
    import soundfile

    path = tmp_path / "clip.wav"
    samples = clip(silence(0.3), tone(0.5, -25), noise(0.12, -35), tone(0.5, -25), silence(0.2))
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    words = [Word("We", 0.34, 0.8), Word("see", 0.90, 1.2), Word("you.", 1.2, 1.42)]
    found = list(onsets(Clip(path, words), "We *see you."))
    assert [(kind, word) for kind, word, _ in found] == [("after silence", "We"), ("s", "see")]
    assert [error for *_, error in found] == pytest.approx([0.04, 0.10], abs=0.007)


# --- What trimming took ----------------------------------------------------------------------------------------------


def test_a_louder_copy_without_silence_has_lost_nothing() -> None:
    speech = clip(noise(0.1, -50), noise(0.3, -30), noise(0.1, -55))
    untouched = clip(noise(0.3, -90, 2), speech, noise(0.4, -90, 3))
    kept = untouched[round(0.27 * RATE) : round(0.85 * RATE)] * np.float32(2)
    found = acoustics.loss(untouched, kept)
    assert found.seconds == 0
    assert found.loudest == LOWEST
    assert found.gain == pytest.approx(6.02, abs=0.01)


def test_a_soft_ending_that_was_cut_is_seen() -> None:
    untouched = clip(silence(0.3), noise(0.4, -30), noise(0.1, -52), silence(0.4))
    found = acoustics.loss(untouched, untouched[round(0.27 * RATE) : round(0.72 * RATE)])
    assert found.seconds == pytest.approx(0.08, abs=0.011)
    assert found.loudest == pytest.approx(-52, abs=2)


def test_a_soft_beginning_that_was_faded_is_seen() -> None:
    untouched = clip(silence(0.3), noise(0.1, -50), noise(0.4, -30), silence(0.3))
    kept = untouched[round(0.25 * RATE) : round(0.9 * RATE)].copy()
    kept[: round(0.1 * RATE)] *= np.float32(0.3)
    assert acoustics.loss(untouched, kept).seconds == pytest.approx(0.05, abs=0.011)
