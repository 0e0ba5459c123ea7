"""The books add up, whatever becomes of voice servers: accepted = finished + cancelled + failed + in flight."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kokoro_common.errors import ServersBusy
from kokoro_common.synthesis import ledger as ledger_module
from kokoro_common.synthesis.ledger import MAX_GONE, MAX_OPEN, OUTCOMES, RETRY_AFTER_SECONDS, Ledger
from kokoro_common.wire.messages import ProtocolError
from kokoro_common.wire.reports import LedgerReport

NONE = dict.fromkeys(("accepted", *OUTCOMES), 0)


def ledger(*keys: str) -> Ledger[str]:
    made: Ledger[str] = Ledger()
    for key in keys:
        made.register(key, NONE, [])
    return made


def counts(**fields: int) -> dict[str, int]:
    return {**NONE, **fields}


def test_an_utterance_is_counted_when_it_is_accepted_and_when_it_ends() -> None:
    books = ledger("one")
    assert books.open("one", "u") and books.is_open("one", "u") and books.open_of("one") == 1
    assert books.report() == LedgerReport(accepted=1, in_flight=1)
    assert books.end("one", "u", "finished") and not books.is_open("one", "u")
    assert books.report() == LedgerReport(accepted=1, finished=1)


def test_nothing_is_counted_twice() -> None:
    books = ledger("one")
    assert [books.open("one", "u") for _ in range(2)] == [True, False]
    assert [books.end("one", "u", "cancelled") for _ in range(2)] == [True, False]
    assert books.report() == LedgerReport(accepted=1, cancelled=1)


def test_two_voice_servers_do_not_share_an_id() -> None:
    books = ledger("one", "two")
    books.open("one", "u")
    assert not books.end("two", "u", "finished") and not books.is_open("two", "u")
    assert books.open("two", "u") and books.in_flight == 2


def test_an_outcome_that_there_is_none_of_is_refused() -> None:
    books = ledger("one")
    books.open("one", "u")
    with pytest.raises(ProtocolError, match="accepted"):
        books.end("one", "u", "accepted")
    assert books.is_open("one", "u")


def test_there_is_room_for_so_many_over_all_voice_servers() -> None:
    books = ledger("one", "two")
    for number in range(MAX_OPEN):
        books.open(("one", "two")[number % 2], str(number))
    with pytest.raises(ServersBusy) as refused:
        books.open("one", "another")
    assert refused.value.retry_after == RETRY_AFTER_SECONDS
    assert not books.open("one", "0")  # it has its place
    books.end("two", "1", "failed")
    assert books.open("one", "another")


def test_what_a_lost_voice_server_had_open_has_failed() -> None:
    books = ledger("one")
    for utterance in ("u", "v"):
        books.open("one", utterance)
    books.end("one", "u", "finished")
    books.close("one")
    books.close("one")  # it is gone once
    assert books.report() == LedgerReport(accepted=2, finished=1, failed=1)
    assert books.open_of("one") == 0 and not books.is_open("one", "v")


def test_one_that_comes_back_says_how_it_was() -> None:
    books = ledger("one", "two")
    books.open("one", "u")
    books.open("two", "v")
    books.close("one")
    books.register("one", counts(accepted=2, finished=1), ["w"])
    assert books.report() == LedgerReport(accepted=3, finished=1, in_flight=2)
    assert books.is_open("one", "w") and not books.is_open("one", "u")


def test_another_model_server_has_the_counts_from_before_its_time() -> None:
    books: Ledger[str] = Ledger()
    books.register("one", counts(accepted=5, finished=2, cancelled=1, failed=1), ["u"])
    assert books.report() == LedgerReport(accepted=5, finished=2, cancelled=1, failed=1, in_flight=1)


def test_counts_that_are_not_the_books_are_passed_over() -> None:
    books: Ledger[str] = Ledger()
    books.register("one", {"finished": 1, "accepted": 1, "stolen": 9}, [])
    assert books.report() == LedgerReport(accepted=1, finished=1)


def test_those_that_never_come_back_cost_no_memory_and_stay_counted() -> None:
    books: Ledger[int] = Ledger()
    for key in range(3 * MAX_GONE):
        books.register(key, counts(accepted=1, finished=1), [])
        books.close(key)
    assert len(books._gone) == MAX_GONE
    assert books.report() == LedgerReport(accepted=3 * MAX_GONE, finished=3 * MAX_GONE)


KEY = st.sampled_from("abc")
UTTERANCE = st.sampled_from("uvwxyz")


class Books(RuleBasedStateMachine):
    """Voice servers that keep their own counts; the ledger hears of them, or loses sight of them for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[str] = Ledger()
        self.counts = {key: dict(NONE) for key in "abc"}  # as each knows them
        self.open: dict[str, set[str]] = {key: set() for key in "abc"}
        self.seen: set[str] = set()  # those with a connection

    @rule(key=KEY)
    def register(self, key: str) -> None:
        self.ledger.register(key, self.counts[key], sorted(self.open[key]))
        self.seen.add(key)

    @rule(key=KEY)
    def close(self, key: str) -> None:
        self.ledger.close(key)
        self.seen.discard(key)

    @rule(key=KEY, utterance=UTTERANCE)
    def accept(self, key: str, utterance: str) -> None:
        if key not in self.seen:
            return
        full = sum(len(self.open[each]) for each in self.seen) >= ledger_module.MAX_OPEN
        try:
            new = self.ledger.open(key, utterance)
        except ServersBusy:
            assert full
            return
        assert new == (utterance not in self.open[key])
        if new:
            self.open[key].add(utterance)
            self.counts[key]["accepted"] += 1

    @rule(key=KEY, utterance=UTTERANCE, outcome=st.sampled_from(OUTCOMES))
    def end(self, key: str, utterance: str, outcome: str) -> None:
        """Ends one, though nobody may hear of it."""
        known = utterance in self.open[key]
        if key in self.seen:
            assert self.ledger.end(key, utterance, outcome) == known
        if known:
            self.open[key].remove(utterance)
            self.counts[key][outcome] += 1

    @invariant()
    def it_adds_up(self) -> None:
        report = self.ledger.report()
        assert report.accepted == report.finished + report.cancelled + report.failed + report.in_flight
        assert report.in_flight == self.ledger.in_flight == sum(len(self.open[key]) for key in self.seen)
        assert min(report.as_dict().values()) >= 0

    def teardown(self) -> None:
        """When all have come back, it says what they say."""
        for key in "abc":
            self.register(key)
        report = self.ledger.report()
        for name in ("accepted", *OUTCOMES):
            assert getattr(report, name) == sum(each[name] for each in self.counts.values())


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture(autouse=True)
def little_room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk reaches the limit."""
    if request.cls is TestBooks:
        monkeypatch.setattr(ledger_module, "MAX_OPEN", 6)
