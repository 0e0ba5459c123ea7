import numpy as np

from kokoro_common.sound.samples import Sound
from kokoro_common.synthesis.fingerprint import Fingerprint
from kokoro_common.synthesis.kept import Kept
from kokoro_common.text.speech import ChunkRequest, Speech

MADE_BY = Fingerprint(
    version="1", model="m", voices="v", g2p="g", device="cpu", precision="fp32", kernel="k", threads=2
)
SECOND = 24_000 * 4  # bytes


def request(text: str = "Build done.", index: int = 0, **speech: object) -> ChunkRequest:
    return ChunkRequest(index=index, text=text, speech=Speech(**speech))  # type: ignore[arg-type]


def sound(seconds: float = 1.0) -> Sound:
    return Sound(samples=np.ones(round(seconds * 24_000), np.float32))


def test_what_was_kept_is_found_by_an_equal_request_and_nothing_else() -> None:
    kept = Kept(64 * SECOND)
    there = sound()
    kept.add(request(), MADE_BY, there)
    assert kept.get(request(), MADE_BY) is there
    for other in (
        request("Build done!"),
        request(index=1),
        request(seed=1),
        request(speed=1.1),
        request(voice="af_sky"),
    ):
        assert kept.get(other, MADE_BY) is None
    for field in ("version", "model", "voices", "g2p", "device", "precision", "kernel"):
        assert kept.get(request(), MADE_BY.replace(**{field: "other"})) is None, field
    assert kept.get(request(), MADE_BY.replace(threads=1)) is None
    assert (kept.hits, kept.asked) == (1, 14)


def test_the_least_recently_asked_goes_when_there_is_no_room() -> None:
    kept = Kept(8 * SECOND)
    for number in range(7):
        kept.add(request(f"Number {number}."), MADE_BY, sound())
    assert kept.get(request("Number 0."), MADE_BY) is not None
    kept.add(request("Number 7."), MADE_BY, sound())
    assert kept.get(request("Number 1."), MADE_BY) is None
    assert kept.get(request("Number 0."), MADE_BY) is not None
    assert kept.bytes <= 8 * SECOND


def test_a_book_does_not_drive_out_the_notices() -> None:
    kept = Kept(8 * SECOND)
    kept.add(request("A notice."), MADE_BY, sound())
    kept.add(request("A chapter."), MADE_BY, sound(3.0))
    assert kept.get(request("A chapter."), MADE_BY) is None
    assert kept.get(request("A notice."), MADE_BY) is not None


def test_without_room_nothing_is_kept() -> None:
    kept = Kept(0)
    kept.add(request(), MADE_BY, sound())
    assert not kept.keeps and kept.get(request(), MADE_BY) is None and kept.bytes == 0


def test_a_thousand_different_texts_stay_within_the_room() -> None:
    kept = Kept(20 * SECOND)
    for number in range(1_000):
        kept.add(request(f"Number {number}."), MADE_BY, sound(0.1 + number % 7 / 2))
    assert 10 * SECOND < kept.bytes <= 20 * SECOND
