"""Voice servers from the first request until they leave: who waits for them, and who hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from kokoro_common.synthesis.roster import REGISTER_SECONDS, Roster
from kokoro_common.wire.messages import ProtocolError, Register

NOW = 1_000.0


def register(voice: str = "af_heart", **fields: Any) -> Register:
    return Register(**{"voice": voice, "pid": 1, "port": 5_001, "instance": "0" * 32, "open": (), **fields})


def test_the_first_who_asks_has_it_started_and_all_hear_when_it_comes() -> None:
    roster: Roster[str] = Roster()
    assert roster.expect("af_heart", "ann", NOW)
    assert not roster.expect("af_heart", "bob", NOW)
    assert roster.register("server", register(pid=4711, port=5_002, instance="1" * 32), NOW) == ["ann", "bob"]
    voice = roster.get("af_heart")
    assert voice is not None and roster.of("server") is voice and roster.registered == [voice]
    assert (voice.pid, voice.port, voice.instance, voice.waiting) == (4711, 5_002, "1" * 32, [])


def test_one_that_comes_by_itself_is_welcome() -> None:
    roster: Roster[str] = Roster()
    assert roster.register("server", register(), NOW) == []
    assert len(roster) == 1 and [voice.last_used for voice in roster] == [NOW]


def test_before_it_has_registered_it_has_no_say() -> None:
    roster: Roster[str] = Roster()
    roster.expect("af_heart", "ann", NOW)
    with pytest.raises(ProtocolError, match="must register first"):
        roster.of("server")
    assert roster.registered == []


def test_a_second_one_of_the_same_name_is_refused() -> None:
    roster: Roster[str] = Roster()
    roster.register("server", register(), NOW)
    with pytest.raises(ProtocolError, match="af_heart has registered already"):
        roster.register("another", register(), NOW)
    assert roster.of("server").name == "af_heart"


def test_one_that_listens_has_so_long_to_register() -> None:
    roster: Roster[str] = Roster()
    roster.expect("af_heart", "ann", NOW)
    assert roster.overdue(NOW + 1e9) == []  # how long a start may take is not known here
    roster.started("af_heart", NOW)
    assert roster.overdue(NOW + REGISTER_SECONDS) == []
    assert roster.overdue(NOW + REGISTER_SECONDS + 0.1) == ["af_heart"]
    roster.register("server", register(), NOW)
    assert roster.overdue(NOW + 1e9) == []


def test_word_of_a_start_that_nobody_waits_for_any_more_is_passed_over() -> None:
    roster: Roster[str] = Roster()
    roster.started("af_heart", NOW)
    assert len(roster) == 0


def test_those_who_wait_for_one_that_will_not_come_are_told_and_may_ask_again() -> None:
    roster: Roster[str] = Roster()
    roster.expect("af_heart", "ann", NOW)
    assert roster.give_up("af_heart") == ["ann"]
    assert roster.give_up("af_heart") == [] and len(roster) == 0
    assert roster.expect("af_heart", "ann", NOW)


def test_one_that_has_come_is_not_given_up() -> None:
    roster: Roster[str] = Roster()
    roster.register("server", register(), NOW)
    assert roster.give_up("af_heart") == [] and roster.get("af_heart") is not None


def test_a_client_that_leaves_is_not_waited_with() -> None:
    roster: Roster[str] = Roster()
    for client in ("ann", "bob"):
        roster.expect("af_heart", client, NOW)
    assert roster.leave("ann") == []
    assert roster.register("server", register(), NOW) == ["bob"]


def test_a_voice_server_that_leaves_is_forgotten_and_its_name_free() -> None:
    roster: Roster[str] = Roster()
    roster.register("server", register(), NOW)
    roster.register("other", register("am_adam"), NOW)
    for voice in roster:  # leaving while one goes through them
        assert voice.peer is not None
        assert [gone.name for gone in roster.leave(voice.peer)] == [voice.name]
    assert roster.leave("server") == [] and len(roster) == 0
    assert roster.expect("af_heart", "ann", NOW)
