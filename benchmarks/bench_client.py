"""What a shell command costs: the whole process of `say.py --no-wait x` on warm servers. Run from the repository root:

    python -m benchmarks.bench_client [--rounds N]

Beside it `python -c pass`, which no Python command can beat, and a bare socket client, which says the same to the same
server with a socket and the package's codec, and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.measure import (
    ROOT,
    VOICE,
    Round,
    new_world,
    print_machine,
    print_ratios,
    print_seconds,
    run,
    start_model_server,
    take_turns,
)
from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.settings import Settings
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Route

PASS, BARE, SAY = "python -c pass", "bare client", "say.py --no-wait"
COMMANDS = {
    PASS: ("-c", "pass"),
    BARE: ("benchmarks/bare_client.py", VOICE, "x"),
    SAY: ("say.py", "--no-wait", "x"),
}


def contestant(name: str, environment: dict[str, str], settle: Callable[[], object]) -> Callable[[], Round]:
    def measured() -> Round:
        settle()
        return {name: run(*COMMANDS[name], environment=environment)}

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole process of say.py --no-wait x on warm servers.")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print_machine()
    with new_world() as world:
        start_model_server(world, ROOT / "tests" / "helpers" / "stub_model_server.py")
        client = Client(Settings(runtime_dir=str(world.runtime)))

        def settle() -> None:
            """Speaks and waits: what was said before has then been heard too, and the servers rest."""
            client.speak(TextSource("x"), Speech(engine="espeak"), Route()).finish()

        rounds = take_turns([contestant(name, world.environment, settle) for name in COMMANDS], options.rounds)
    print_ratios(rounds, [(SAY, PASS), (SAY, BARE), (BARE, PASS)])
    print_seconds(rounds, COMMANDS)


if __name__ == "__main__":
    main()
