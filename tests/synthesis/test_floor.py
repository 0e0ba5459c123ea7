"""One utterance at a time has the speakers, in the order of asking."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.synthesis.floor import Floor


@given(st.lists(st.tuples(st.sampled_from(["request", "release", "interrupt"]), st.integers(0, 5)), max_size=60))
def test_the_floor_goes_to_one_at_a_time_in_the_order_of_asking(steps: list[tuple[str, int]]) -> None:
    granted: list[Hashable] = []
    told_next: list[Hashable] = []
    floor = Floor(granted.append, told_next.append)
    line: list[int] = []  # the model of it: who asked and has not left
    expected: list[int] = []
    for now, (verb, key) in enumerate(steps):
        before = line[:1]
        if verb == "request":
            floor.request(key, now)
            line += [key] if key not in line else []
        elif verb == "interrupt":
            assert floor.interrupt(key, now) == tuple(other for other in line if other != key)
            line = [key]
        else:
            floor.release(key)
            line = [other for other in line if other != key]
        if line and line[:1] != before:
            expected.append(line[0])
        assert floor.line == tuple(line)
        assert granted == expected
        assert len(line) < 2 or line[1] in told_next


def test_who_is_next_hears_it_once() -> None:
    told_next: list[Hashable] = []
    floor = Floor(lambda _: None, told_next.append)
    for now, key in enumerate("abc"):
        floor.request(key, now)
    floor.request("b", 3)
    assert told_next == ["b"]
    floor.release("a")
    assert told_next == ["b", "c"]


def test_who_had_asked_a_model_server_that_died_gets_the_place_it_had() -> None:
    granted: list[Hashable] = []
    floor = Floor(granted.append, lambda _: None)
    for key, since in (("second", 2.0), ("third", 3.0), ("first", 1.0)):
        floor.request(key, since)
    assert floor.line == ("first", "second", "third")
    assert granted == ["second", "first"]  # floor.lock keeps them apart
