"""A new version over a running old one, and the reverse: nothing that is being spoken is lost, nothing loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import World
from tests.faults.conftest import Shown, times

pytestmark = pytest.mark.e2e

VERSIONS = {"old": ("0.1.0", "1"), "new": ("0.2.0", "1"), "other protocol": ("0.3.0", "2")}
LONG = "This is a sentence that says nothing much. " * 18  # 2 s by the recorder's clock


def use(world: World, version: str) -> None:
    world.environment |= dict(zip(("VERSION", "PROTOCOL"), VERSIONS[version], strict=True), SAY="1")
    world.program = Path(__file__).parent / "versioned_server.py"


def running(world: World) -> tuple[str, int]:
    report = world.status()
    return report["version"], report["model_server"]["pid"]


@pytest.mark.parametrize("daemon", VERSIONS)
@pytest.mark.parametrize("client", VERSIONS)
def test_a16_versions_meet(world: World, client: str, daemon: str, shown: Shown) -> None:
    rounds, held = times(20), 0
    order = list(VERSIONS)
    replaced = order.index(client) > order.index(daemon)
    for _ in range(rounds):
        use(world, daemon)
        assert world.say("-o", "/dev/null", "hello").returncode == 0
        first = running(world)
        assert first[0] == VERSIONS[daemon][0]
        speaking = world.popen(LONG)  # by the old version
        world.wait_for_speech()
        use(world, client)
        if daemon == "other protocol" and client != daemon:
            ended = world.say("-o", "/dev/null", "hello")
            assert ended.returncode == 6
            assert "the servers are newer (version 0.3.0)" in ended.stderr
        else:
            assert world.say("-o", "/dev/null", "hello").returncode == 0
        assert (speaking.wait(60), speaking.communicate()[1]) == (0, b"")  # its end was not cut
        for server in world.servers() if replaced else []:
            if server.pid == first[1]:
                server.wait(20)  # the old one leaves when it is idle
        if replaced:
            assert world.say("-o", "/dev/null", "hello").returncode == 0
            held += running(world)[0] == VERSIONS[client][0]
        else:
            use(world, daemon)
            held += running(world) == first
        assert world.status()["model_server"]["restarts"] == 0
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A16", f"a client that is {client} and servers that are {daemon}", held, of=rounds)
