"""C17: what another user puts where this one works, above it or into its configuration changes no word that is spoken.

The other user is a real one, so this needs root, who becomes it for a moment.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")]
OTHER = 65534  # nobody's number on Linux and macOS
NAME = ".kokoro-lexicon"
TEXT = "Do not approve the 100 for Alice."
LEXICON = "not approve = approve\n100 = 9000\nAlice = Mallory\n"
SECRET = "PRIVATE KEY MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n"


def as_other(task: Callable[[], object]) -> None:
    """Runs a task as the other user, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.umask(0)
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            task()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def links(directory: Path, target: Path) -> None:
    (directory / NAME).symlink_to(target)


def piped(directory: Path, _: Path) -> None:
    os.mkfifo(directory / NAME, 0o666)


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "a lexicon": lambda directory, _: (directory / NAME).write_text(LEXICON),
    "garbage": lambda directory, _: (directory / NAME).write_bytes(bytes(range(256)) * 99),
    "no entries": lambda directory, _: (directory / NAME).write_text("nothing\n" * 1000),
    "a directory": lambda directory, _: (directory / NAME).mkdir(),
    "a pipe": piped,
    "a link to a secret of ours": links,
    "a link to nothing": lambda directory, _: links(directory, Path("/nonexistent/file")),
    "a link to a lexicon of theirs": lambda directory, _: (
        (directory / "theirs").write_text(LEXICON),
        links(directory, directory / "theirs"),
    ),
    "a link to itself": lambda directory, _: links(directory, Path(NAME)),
    "a large file": lambda directory, _: (directory / NAME).write_text(LEXICON + "#" * (1 << 20)),
}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of the kind of /tmp that both users reach, and a secret of ours beside it.

    Not below pytest's own, which every pytest that starts closes to others.
    """
    place = Path(tempfile.mkdtemp(prefix="kokoro-two-users-"))
    place.chmod(0o711)
    (place / "secret").write_text(SECRET)
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    yield shared
    shutil.rmtree(place)


def explained(world: World, directory: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "say.py"), "--explain", TEXT],
        cwd=directory, env=world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(1200)
def test_c17_what_another_user_plants_above_our_work_has_no_effect(world: World, shared: Path, shown: Shown) -> None:
    undisturbed = explained(world, world.path)
    assert undisturbed[0] == 0 and "approve" in undisturbed[1] and undisturbed[2] == ""
    count = max(len(PLANTED), times(200))
    held, odd = 0, []
    for number, kind in zip(range(count), itertools.cycle(PLANTED)):
        place = shared / f"place{number}"
        place.mkdir()
        place.chmod(0o1777)
        work = place / "our" / "work" if number % 2 else place
        work.mkdir(parents=True, exist_ok=True)
        as_other(lambda kind=kind, place=place: PLANTED[kind](place, shared.parent / "secret"))  # type: ignore[misc]
        code, said, told = explained(world, work)
        ours = (code, said) == undisturbed[:2] and "PRIVATE" not in told
        if ours and len(told.splitlines()) == 1 and f"{place / NAME} is passed over" in told:
            held += 1
        else:
            odd.append((kind, code, said, told))
    shown("C17", "another user's lexicon above our work: the same words, one note", held, of=count, odd=odd[:3])


def test_c17_a_lexicon_of_ours_is_found_above_another_users(world: World, shared: Path, shown: Shown) -> None:
    (shared.parent / NAME).write_text("Alice = Alison\n")
    as_other(lambda: (shared / NAME).write_text(LEXICON))
    code, said, told = explained(world, shared)
    assert (code, len(told.splitlines())) == (0, 1), told
    shown("C17", "ours counts, theirs does not", int("Alison" in said and "Mallory" not in said), of=1)


def test_c17_a_configuration_that_others_can_write_is_refused(world: World, shared: Path, shown: Shown) -> None:
    """KOKORO_CONFIG_DIR in a place of another's: settings, voices and the lexicon would be theirs."""
    config = shared / "kokoro"
    as_other(config.mkdir)
    world.environment["KOKORO_CONFIG_DIR"] = str(config)
    code, said, told = explained(world, world.path)
    held = [(code, said) == (2, "") and told.startswith(f"say.py: {config} belongs to another user; set ")]
    config.rmdir()
    config.mkdir()
    config.chmod(0o777)
    code, said, told = explained(world, world.path)
    held.append((code, said) == (2, "") and told.startswith(f"say.py: {config} can be written by other users; set "))
    config.chmod(0o700)
    held.append(explained(world, world.path)[0] == 0)
    world.environment["KOKORO_CONFIG_DIR"] = str(world.path / "config")  # in which the servers can be ended
    shown("C17", "a configuration directory of another's is refused", sum(held), of=3)
