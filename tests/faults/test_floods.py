"""More clients than there are places: each is served or told that it is busy; nothing is lost, mixed or left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from tests.conftest import ROOT, World
from tests.faults.conftest import FULL, Shown, times

pytestmark = pytest.mark.e2e

PROCESSES = 5


def flood(world: World, clients: int, rounds: int) -> tuple[Counter[str], list[float], list[float]]:
    """What became of all clients, how long each took, and how long those took who were told busy; in seconds."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.flood", str(world.runtime), str(clients // PROCESSES), str(rounds)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for _ in range(rounds):
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
    outcomes: Counter[str] = Counter()
    took: list[float] = []
    busy: list[float] = []
    for process in processes:
        report = json.loads(process.communicate(timeout=300)[0].splitlines()[-1])
        outcomes.update(report["outcomes"])
        took += report["took"]
        busy += report["busy"]
    return outcomes, took, busy


def percentile(values: list[float], percent: int) -> float:
    return round(sorted(values)[(len(values) - 1) * percent // 100], 2) if values else 0.0


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("clients", "rounds"), [(500, 10), (5000, 1)])
def test_b6_every_client_of_a_flood_is_served_or_told_busy(
    stub_world: World, clients: int, rounds: int, shown: Shown
) -> None:
    world = stub_world
    clients, rounds = (clients, times(rounds)) if clients == 500 else (clients if FULL else 1000, 1)
    assert world.say("-o", "/dev/null", "hello").returncode == 0
    servers = {server.pid: server for server in world.servers()}
    before = {pid: (server.memory_info().rss, server.num_fds()) for pid, server in servers.items()}
    outcomes, took, busy = flood(world, clients, rounds)
    ledger = world.status()["model_server"]["ledger"]
    assert {server.pid for server in world.servers()} == set(servers)
    assert ledger["accepted"] == ledger["finished"] == outcomes["done"] + 1, outcomes
    growth = max(psutil.Process(pid).memory_info().rss - rss for pid, (rss, _) in before.items())
    assert all(server.num_fds() <= fds for server, (_, fds) in zip(servers.values(), before.values(), strict=True))
    shown("B6", f"{clients} clients at once, done or busy", outcomes["done"] + outcomes["busy"], of=clients * rounds,
          outcomes=dict(outcomes), seconds_max=round(max(took), 1), busy_p99=percentile(busy, 99),
          growth_mb=round(growth / 1e6, 1))  # fmt: skip
