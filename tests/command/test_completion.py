"""Completion in real shells, and the man page: made from the registered flags, and installed as they are."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import say  # noqa: F401 - registers the flags
from kokoro_common.command.arguments import flags, parser, verb_for
from kokoro_common.command.completion import SHELLS, bash, endings_for, fish, words_for, zsh
from kokoro_common.command.manual import manual
from kokoro_common.settings import NAMES, variable

ROOT = Path(__file__).parent.parent.parent
SHARE = ROOT / "deploy" / "share"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with files to complete, the command, and the voices of a user."""
    for name in ("book.epub", "notes.md", "song.mp3", "SONG.txt", "a b.pdf", "voice.pt", "x.srt"):
        (tmp_path / name).touch()
    (tmp_path / "chapters").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / "bin" / "say.py").symlink_to(ROOT / "say.py")
    (tmp_path / "bin" / "kokoro-say").symlink_to(ROOT / "say.py")
    (tmp_path / "config" / "voices").mkdir(parents=True)
    (tmp_path / "config" / "voices" / "af_mine.blend").write_text("af_bella:0.7,af_sky:0.3")
    for shell, make in SHELLS.items():
        (tmp_path / f"completion.{shell}").write_text(make())
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KOKORO_", "BASH", "ZDOTDIR"))}
    return {
        **kept,
        "PATH": f"{place / 'bin'}:/usr/bin:/bin",
        "HOME": str(place),
        "XDG_CONFIG_HOME": str(place),
        "XDG_DATA_HOME": str(place),
        "KOKORO_CONFIG_DIR": str(place / "config"),
        "TERM": "dumb",
    }


def in_bash(place: Path, *words: str) -> list[str]:
    """What bash's completion offers for the last of these words, as readline splits them."""
    script = (
        "source completion.bash\n"
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}\n"
        f"$(complete -p {shlex.quote(os.path.basename(words[0]))} | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        'for each in "${COMPREPLY[@]}"; do echo "$each"; done'
    )
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=place, env=environment(place),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stderr == "", done.stderr
    return done.stdout.split("\n")[:-1]


def in_fish(place: Path, *words: str) -> list[str]:
    line = " ".join(words)
    script = f"source completion.fish; complete -C {shlex.quote(line)}"
    done = subprocess.run(["fish", "--no-config", "-c", script], cwd=place, env=environment(place),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stderr == "", done.stderr
    return [each.partition("\t")[0] for each in done.stdout.splitlines()]


ASK = {"bash": in_bash, "fish": in_fish}
BOTH = [pytest.param("bash", marks=needs("bash")), pytest.param("fish", marks=needs("fish"))]


@pytest.mark.parametrize("shell", BOTH)
@pytest.mark.parametrize("command", ["kokoro-say", "say.py", "./bin/say.py"])
def test_every_flag_is_offered_for_each_way_to_call_it(place: Path, shell: str, command: str) -> None:
    offered = ASK[shell](place, command, "--")
    assert {each.rstrip("=") for each in offered} == {name for flag in flags() for name in flag.names if name[1] == "-"}
    assert ASK[shell](place, command, "--engi") == ["--engine"]


@pytest.mark.parametrize("shell", BOTH)
def test_every_value_that_is_known_is_offered(place: Path, shell: str) -> None:
    tried = 0
    for flag in flags():
        for word in words_for(flag):
            assert word in ASK[shell](place, "say.py", flag.names[-1], word[:2]), (flag.names, word)
            tried += 1
    assert tried > 20
    assert ASK[shell](place, "say.py", "--engine", "kok") == ["kokoro"]
    assert ASK[shell](place, "say.py", "--speed", "") == []


@pytest.mark.parametrize("shell", BOTH)
def test_voices_are_the_catalogues_and_the_users_own(place: Path, shell: str) -> None:
    assert ASK[shell](place, "say.py", "-v", "bm_f") == ["bm_fable"]
    assert ASK[shell](place, "say.py", "--voice", "af_mi") == ["af_mine"]
    assert len(ASK[shell](place, "kokoro-say", "-v", "")) == 55
    assert ASK[shell](place, "say.py", "-v", "af_bella,am_ad") == ["af_bella,am_adam"]
    assert "am_adam" in ASK[shell](place, "say.py", "--download", "am_a")
    (place / "config" / "voices" / "af_mine.blend").unlink()
    (place / "bin" / "python3").unlink()
    (place / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    (place / "bin" / "python3").chmod(0o755)
    assert ASK[shell](place, "say.py", "-v", "bm_f") == ["bm_fable"], "the catalogue is known without the command"


@pytest.mark.parametrize("shell", BOTH)
def test_files_are_offered_by_their_ending(place: Path, shell: str) -> None:
    def offered(*words: str) -> set[str]:
        return {each.replace("\\ ", " ").rstrip("/") for each in ASK[shell](place, "say.py", *words)}

    books = offered("-f", "")
    assert {"book.epub", "notes.md", "a b.pdf", "SONG.txt", "chapters"} <= books
    assert not {"song.mp3", "voice.pt"} & books
    assert "song.mp3" in offered("-o", "so") and "x.srt" in offered("--srt", "x")
    assert "book.epub" not in offered("-o", "")


@needs("bash")
def test_in_bash_a_value_may_follow_a_sign_and_text_is_left_alone(place: Path) -> None:
    assert in_bash(place, "say.py", "--engine", "=", "kok") == ["kokoro"]
    assert in_bash(place, "say.py", "--engine", "=") == ["auto", "kokoro", "espeak"]
    assert in_bash(place, "say.py", "-v", "af_bella", ":", "0.7,af_mi") == ["0.7,af_mine"]
    assert in_bash(place, "say.py", "--add-voice", "af_me", "vo") == ["voice.pt"]
    assert in_bash(place, "say.py", "--add-voice", "af") == []
    assert in_bash(place, "say.py", "--", "--eng") == []
    assert in_bash(place, "say.py", "bo") == []


def typed(place: Path, shell: list[str], *lines: str, until: str) -> str:
    """What an interactive shell prints for lines that a user types, tabs and all."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvpe(shell[0], shell, environment(place))
    printed = b""
    deadline = time.monotonic() + 60
    try:
        for number, line in enumerate([*lines, "exit\r"]):
            mark = f"ready{number}".encode()
            os.write(terminal, b"echo rea''dy%d\r" % number)
            while mark not in printed and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    printed += os.read(terminal, 1 << 16)
            os.write(terminal, line.encode())
        while time.monotonic() < deadline and until.encode() not in printed:
            if select.select([terminal], [], [], 1)[0]:
                printed += os.read(terminal, 1 << 16)
    except OSError:
        pass  # the shell has ended
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return printed.decode(errors="replace")


SHOWN = "show() { printf 'GOT'; printf ' <%s>' \"$@\"; echo; }\r"


@needs("bash")
def test_a_tab_in_an_interactive_bash(place: Path) -> None:
    lines = (". ./completion.bash\r", SHOWN, "complete -F _kokoro_say show\r", "show --engi\tkok\t -f a\t -v bm_f\t\r")
    shown = typed(place, ["bash", "--norc", "-i"], *lines, until="<bm_fable>")
    assert "GOT <--engine> <kokoro> <-f> <a b.pdf> <-v> <bm_fable>" in shown, shown


@needs("zsh")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("show --engi\tkok\t", "<--engine=kokoro>"),
        ("show -v bm_f\t", "<-v> <bm_fable>"),
        ("show -v af_bella,am_ad\t", "<-v> <af_bella,am_adam>"),
        ("show -f a\t", "<-f> <a b.pdf>"),
        ("show --output=so\t", "<--output=song.mp3>"),
        ("show --emoji dr\t", "<--emoji> <drop>"),
        ("show --add-voice af_me vo\t", "<--add-voice> <af_me> <voice.pt>"),
        ("show --dow\tam_ad\t", "<--download> <am_adam>"),
        ("show bo\t", "<bo>"),
    ],
)
def test_a_tab_in_an_interactive_zsh(place: Path, keys: str, words: str) -> None:
    begin = "autoload -Uz compinit && compinit -u -D; . ./completion.zsh; compdef _kokoro_say show\r"
    shown = typed(place, ["zsh", "-f", "-i"], begin, SHOWN, f"{keys}\r", until="GOT <")
    assert f"GOT {words}" in shown, shown


@needs("zsh")
def test_zsh_finds_the_installed_file(place: Path) -> None:
    shutil.copy(SHARE / "zsh" / "site-functions" / "_kokoro-say", place / "_kokoro-say")
    begin = "fpath=($PWD $fpath); autoload -Uz compinit && compinit -u -D; echo $_comps[say.py] $_comps[kokoro-say]\r"
    shown = typed(place, ["zsh", "-f", "-i"], begin, until="_kokoro-say _kokoro-say")
    assert "_kokoro-say _kokoro-say" in shown


def test_each_flag_is_in_each_completion_and_in_the_manual() -> None:
    page = manual().replace("\\-", "-")
    for flag in flags():
        for name in flag.names:
            assert re.search(rf"{name}[ |)']", bash()), name
            assert re.search(rf"{name}[=+',}} ]", zsh()), name
            assert re.search(rf" -l {name[2:]} | -s {name[1:]} ", fish()), name
            assert f"\\fB{name}\\fR" in page, name
        assert flag.help.replace("'", "\\'") in fish()
        assert flag.help.replace("'", "\\(aq").replace('"', "\\(dq") in page


def test_every_kind_of_value_is_known() -> None:
    for flag in flags():
        if isinstance(flag.values, str) and flag.values:
            assert words_for(flag) or endings_for(flag) or flag.values == "voice", flag.names


@pytest.mark.parametrize("shell", list(SHELLS))
def test_the_command_prints_what_is_installed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = parser().parse_args(["--completion", shell])
    run = verb_for(options)
    assert run is not None and run(options) == 0
    (installed,) = (path for path in SHARE.rglob("*kokoro-say*") if shell in path.relative_to(SHARE).parts[0])
    assert capsys.readouterr().out == installed.read_text()


def test_the_installed_files_are_of_these_flags(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SHARE.parent / "generate.py", tmp_path], check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(SHARE): path.read_text() for path in SHARE.rglob("*kokoro-say*") if path.is_file()}
    assert sorted(made) == sorted(kept)
    assert made == kept, "run python deploy/generate.py"


def test_the_manual_names_every_variable() -> None:
    page = manual().replace(r"\-", "-")
    assert [name for name in NAMES if f"\\fB{variable(name)}\\fR" not in page] == []


@needs("mandoc")
def test_the_manual_has_no_fault_that_mandoc_knows() -> None:
    page = SHARE / "man" / "man1" / "kokoro-say.1"
    done = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@needs("man")
def test_the_manual_can_be_read_at_80_columns() -> None:
    page = SHARE / "man" / "man1" / "kokoro-say.1"
    done = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=False,
                          env={**os.environ, "MANWIDTH": "80", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(".\b", "", done.stdout)
    assert max(map(len, text.splitlines())) <= 80
    assert "-v, --voice NAME" in text and 'lines "NAME: text" in voices' in text
