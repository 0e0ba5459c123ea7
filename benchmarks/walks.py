"""Random walks over both servers' state machines (tests/servers/test_walks.py), for as long as wanted.

    python -m benchmarks.walks --minutes 60

Prints how many walks and steps there were, and steps a second. A walk that breaks an invariant ends it with the
shortest walk that does, which is then a test to be written.
"""

from __future__ import annotations

import argparse
import sys
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.servers.test_walks import Walk


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random walks over both servers' state machines.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=50, help="of a walk, at the most")
    parser.add_argument("--walks", type=int, default=500, help="before Hypothesis begins anew, with other numbers")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    walks = 0
    while time.monotonic() < began + 60 * options.minutes:
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=options.walks,
                stateful_step_count=options.steps,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        walks += options.walks
        took = time.monotonic() - began
        print(
            f"{walks:,} walks, {Walk.steps:,} steps, {Walk.steps / took:.0f} a second, {took / 60:.1f} min", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
