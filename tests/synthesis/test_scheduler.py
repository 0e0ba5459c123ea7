"""Whose turn it is: fair between utterances, in order within one, and nothing of a cancelled one."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.synthesis.scheduler import Piece, Scheduler
from kokoro_common.text.speech import ChunkRequest, Speech


def piece(utterance: str, index: int, engine: str = "kokoro", owner: str = "voice", text: str = "x") -> Piece:
    return Piece(
        owner=owner,
        utterance=utterance,
        request=ChunkRequest(index=index, text=text, speech=Speech(lang="a")),
        engine=engine,
        text=text,
        seed=0,
        added=0.0,
    )


def drained(scheduler: Scheduler, limit: int = 1) -> list[list[Piece]]:
    batches = []
    while len(scheduler):
        batches.append(scheduler.next_batch(limit))
    return batches


def test_a_notice_waits_for_one_piece_of_a_book_not_for_the_book() -> None:
    scheduler = Scheduler()
    for index in range(50):
        scheduler.add(piece("book", index))
    scheduler.next_batch(1)
    scheduler.add(piece("notice", 0))
    spoken = [batch[0].utterance for batch in drained(scheduler)]
    assert spoken.index("notice") <= 1


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4))
def test_pieces_of_an_utterance_keep_their_order_and_none_is_lost(utterances: list[str], limit: int) -> None:
    scheduler = Scheduler()
    added = [piece(utterance, index) for index, utterance in enumerate(utterances)]
    for each in added:
        scheduler.add(each)
    batches = drained(scheduler, limit)
    assert all(1 <= len(batch) <= limit for batch in batches)
    # Whoever waits has its turn before anybody has a second one.
    waiting = {name: utterances.count(name) for name in "abc"}
    for batch in batches:
        counts = {name: sum(each.utterance == name for each in batch) for name in "abc"}
        assert all(
            counts[one] <= counts[other] + 1 for one in "abc" for other in "abc" if waiting[other] > counts[other]
        )
        waiting = {name: waiting[name] - counts[name] for name in "abc"}
    for name in "abc":
        spoken = [each for batch in batches for each in batch if each.utterance == name]
        assert spoken == [each for each in added if each.utterance == name]


def test_a_batch_has_one_engine() -> None:
    scheduler = Scheduler()
    for utterance, engine in (("a", "kokoro"), ("b", "espeak"), ("c", "kokoro")):
        scheduler.add(piece(utterance, 0, engine))
    assert [[each.utterance for each in batch] for batch in drained(scheduler, 4)] == [["a", "c"], ["b"]]


def test_espeak_speaks_one_at_a_time() -> None:
    scheduler = Scheduler()
    for utterance in "ab":
        scheduler.add(piece(utterance, 0, "espeak"))
    assert [len(batch) for batch in drained(scheduler, 4)] == [1, 1]


def test_a_book_fills_a_batch_when_nobody_else_waits() -> None:
    scheduler = Scheduler()
    for index in range(5):
        scheduler.add(piece("book", index))
    assert [[each.request.index for each in batch] for batch in drained(scheduler, 4)] == [[0, 1, 2, 3], [4]]


def test_a_notice_does_not_wait_for_what_is_much_longer_and_that_has_the_next_turn() -> None:
    scheduler = Scheduler()
    scheduler.add(piece("notice", 0, text="x" * 10))
    scheduler.add(piece("book", 0, text="x" * 400))
    scheduler.add(piece("other", 0, text="x" * 50))
    scheduler.add(piece("notice", 1, text="x" * 10))
    batches = [[each.utterance for each in batch] for batch in drained(scheduler, 4)]
    assert batches == [["notice", "other", "notice"], ["book"]]


def test_cancel_drops_an_utterance_of_one_owner_only() -> None:
    scheduler = Scheduler()
    for owner in ("one", "two"):
        scheduler.add(piece("same id", 0, owner=owner))
    scheduler.cancel("one", "same id")
    assert [batch[0].owner for batch in drained(scheduler)] == ["two"]


def test_close_wakes_who_waits() -> None:
    scheduler = Scheduler()
    taken: list[list[Piece]] = []
    waiter = threading.Thread(target=lambda: taken.append(scheduler.next_batch(1)))
    waiter.start()
    scheduler.close()
    waiter.join(5)
    assert taken == [[]]
