"""Errors that nobody meant, at every place of an utterance's course: they end that utterance, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.faults.failures import METHODS
from tests.faults.test_floor import FAILING, LONG, client_of, ends, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("method", METHODS)
def test_d1_an_error_ends_the_utterance_it_is_about(world: World, method: str, shown: Shown) -> None:
    world.start_stub_server(FAILING)
    bystander = world.popen("-o", "whole.wav", stdin=subprocess.PIPE)
    assert bystander.stdin is not None
    bystander.stdin.write(b"The first of two sentences. ")
    bystander.stdin.flush()
    wait_for(world, "af_heart", "writing")
    pids = sorted(each.pid for each in world.servers())
    rounds, held = times(20), 0
    for _ in range(rounds):
        long = LONG if method in ("pause", "resume", "tick", "deadline", "report") else ""
        faulty = world.popen(f"Now the turn fails in {method}. {long}")
        if method in ("pause", "resume"):
            wait_for(world, "af_heart", "speaking")
            world.say("--pause")
            world.say("--resume")
        elif method == "report":
            while faulty.poll() is None:
                client_of(world).status()
        code, errors = ends(faulty)
        after = world.say("The next one."), world.say("-i", "-v", "am_adam", "Another.")
        held += (code, errors.count("\n")) == (1, 1) and [(each.returncode, each.stderr) for each in after] == [
            (0, "")
        ] * 2
        assert "the voice server's log" in errors, errors
    bystander.stdin.write(b"And the second.")
    code, errors = ends(bystander)
    shown("D1", f"an error in {method} ends one utterance", held, of=rounds)
    assert (code, errors) == (0, "")
    assert sorted(each.pid for each in world.servers() if each.pid in pids) == pids
