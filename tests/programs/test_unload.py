"""The model's memory at rest: freed after a while or on demand, given back to the system, and no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.settings import resolve
from tests.conftest import World
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.local_hub import LocalHub
from tests.helpers.toy_kokoro import ToyKokoro

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(600)]

WITHOUT_A_MODEL = 60e6  # bytes: an interpreter with sockets, psutil and no numpy takes 40


@pytest.fixture
def toy_hub(world: World, toy_kokoro: ToyKokoro) -> Iterator[LocalHub]:
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        yield hub
        world.say("--shutdown", "-q")


def model_server(world: World) -> psutil.Process:
    (process,) = (each for each in world.servers() if "model_server" in " ".join(each.cmdline()))
    return process


def test_unload_gives_the_memory_back_and_the_same_server_loads_the_model_again(
    world: World, toy_hub: LocalHub
) -> None:
    assert world.say("-o", "one.wav", "Hello.", timeout=200).returncode == 0
    server = model_server(world)
    before, port = server.memory_info().rss, world.status()["model_server"]["port"]
    workers = [each for each in server.children() if "voice_server" not in " ".join(each.cmdline())]
    assert len(workers) >= 2
    done = world.say("--unload", timeout=200)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("say.py: the model's memory is free: "), done.stderr
    status = world.status()["model_server"]
    assert (status["pid"], status["port"], status["state"]) == (server.pid, port, "unloaded")
    assert server.memory_info().rss < WITHOUT_A_MODEL < 0.5 * before
    assert status["restarts"] == 0
    assert "model          unloaded, because --unload asked for it\n" in world.say("--status").stdout
    assert psutil.wait_procs(workers, timeout=60)[1] == [], "its workers have ended, and left no zombies"
    assert world.say("--unload").stderr == "say.py: no model is loaded\n"
    assert world.say("-o", "two.wav", "Hello.", timeout=200).returncode == 0
    assert world.status()["model_server"]["pid"] == server.pid
    assert (world.path / "one.wav").read_bytes() == (world.path / "two.wav").read_bytes()
    world.say("--shutdown", "-q")
    assert world.say("--unload").stderr == "say.py: no servers are running\n"


@pytest.mark.slow
def test_what_is_under_way_is_done_first_and_what_comes_meanwhile_is_served(world: World, toy_hub: LocalHub) -> None:
    text = "Hello there, this is a sentence. "
    assert world.say("-o", "one.wav", text, timeout=200).returncode == 0
    assert world.say("-o", "long.wav", text * 12, timeout=200).returncode == 0
    long = world.popen("-o", "again.wav", text * 12)
    while not world.status()["writing"]:  # each takes a tenth of a second
        assert long.poll() is None
    freed = Client(resolve({}, world.environment)).unload()
    assert freed is not None and freed.before > freed.after > 0
    long.communicate(timeout=200)
    assert long.returncode == 0
    assert (world.path / "again.wav").read_bytes() == (world.path / "long.wav").read_bytes()

    expected = (world.path / "one.wav").read_bytes()
    rounds, callers, codes = 3, 2, []

    def call(number: int) -> None:
        for each in range(rounds):
            name = f"{number}-{each}.wav"
            done = world.say("-o", name, text, timeout=200)
            codes.append((done.returncode, done.stderr, (world.path / name).read_bytes() == expected))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    begun = 0
    while any(thread.is_alive() for thread in threads):
        done = world.say("--unload", "-q", timeout=200)
        assert done.returncode == 0, done.stderr
        assert world.status()["model_server"] is not None, "callers wait while it begins again"
        begun += 1
    for thread in threads:
        thread.join()
    assert len(codes) == rounds * callers
    assert [code for code in codes if code[0] or not code[2]] == []
    renewals = [entry for entry in world.log("model_server") if entry["event"] == "going on in fresh memory"]
    assert len(renewals) >= 2, f"{begun} calls of --unload"


@pytest.mark.slow
def test_a_request_to_unload_that_is_taken_back_frees_nothing(world: World, toy_hub: LocalHub) -> None:
    text = "Hello there, this is a sentence. " * 12
    assert world.say("-o", "one.wav", text, timeout=200).returncode == 0
    long = world.popen("-o", "again.wav", text)
    while not world.status()["writing"]:
        assert long.poll() is None
    asking = world.popen("--unload")
    assert asking.stderr is not None
    assert asking.stderr.readline() == b"say.py: waiting until what is being spoken or written is done\n"
    asking.terminate()
    asking.communicate(timeout=20)
    long.communicate(timeout=200)
    assert long.returncode == 0
    world.status()
    assert world.say("-o", "two.wav", "Hello.", timeout=200).returncode == 0
    assert world.status()["model_server"]["state"] == "ready"
    renewals = [entry for entry in world.log("model_server") if entry["event"] == "going on in fresh memory"]
    assert renewals == []
