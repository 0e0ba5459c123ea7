"""What is told to install, mend or remove works in this environment."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from kokoro_common import installed

ROOT = Path(__file__).parent.parent
OLD = sorted(
    {
        *Path.home().glob(".pyenv/versions/*/bin/python"),
        *(Path(found) for version in ("2", "2.7", "3.8", "3.9", "3.10") if (found := shutil.which(f"python{version}"))),
    }
)


def version_of(python: Path) -> tuple[int, ...]:
    code = "import sys; sys.stdout.write('%d %d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else (99,)


@pytest.mark.parametrize("program", ["say.py", "model_server.py", "voice_server.py"])
def test_a_python_that_is_too_old_is_named_in_one_line(program: str) -> None:
    oldest = (2, 7) if program == "say.py" else (3, 8)  # which users start by name, and which only with Python
    tried = 0
    for python in OLD:
        if oldest <= version_of(python) < (3, 11):
            done = subprocess.run([python, ROOT / program, "x"], env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                                  capture_output=True, text=True, check=False)  # fmt: skip
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
            assert f"{program}: this is Python {'.'.join(map(str, version_of(python)))}" in done.stderr
            assert "3.11 or newer" in done.stderr
            tried += 1
    if not tried:
        pytest.skip("there is no Python before 3.11 here")


def test_a_python_without_the_libraries_says_so_before_a_server_is_started(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KOKORO_", "PYTHON"))}
    environment |= {f"KOKORO_{name}_DIR": str(tmp_path / name.lower()) for name in ("RUNTIME", "CACHE", "CONFIG")}
    environment["KOKORO_PORT"] = "0"
    python = tmp_path / "bare" / "bin" / "python"
    for arguments in (["-n", "hello"], ["--download"], ["-o", "x.wav", "hello"]):
        done = subprocess.run([python, ROOT / "say.py", *arguments], cwd=tmp_path, env=environment, input="",
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert f"say.py: {python} has no numpy" in done.stderr
        assert "pip install" in done.stderr or ".venv/bin/kokoro-say" in done.stderr
    assert not (tmp_path / "runtime" / "model.json").exists()


@pytest.mark.parametrize("extra", ["ja", "zh"])
def test_an_extra_is_named_by_distributions_that_an_index_has(extra: str) -> None:
    words = shlex.split(installed.add_extra(extra))
    assert words[: words.index("install")] == [sys.executable, "-m", "pip"]
    assert {"ja": "fugashi", "zh": "misaki[zh]"}[extra] in words
    assert not any(word.startswith("kokoro-say") for word in words)


def test_pip_knows_each_command_that_is_told() -> None:
    """Nothing is fetched or changed: pip reads the options, and tells of what would be removed."""
    for command in (installed.mend("misaki"), installed.install_again()):
        words = [*shlex.split(command), "--dry-run", "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "--no-deps" in done.stdout
    if removing := installed.uninstall():
        shown = [*shlex.split(removing)[:3], "show", "kokoro-say"]
        assert subprocess.run(shown, capture_output=True, check=False).returncode == 0


def test_what_is_told_to_install_again_is_there() -> None:
    source = shlex.split(installed.install_again())[-1]
    assert (Path(source) / "pyproject.toml").exists() or source.startswith("http") or source == "SOURCE"
