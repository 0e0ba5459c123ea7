"""What is told to install, mend or remove works in this environment."""

from __future__ import annotations

import json
import os
import re
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


def test_a_python_that_misaki_does_not_declare_is_installed_for_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "UNDECLARED_PYTHON", (3, 11))  # as this one then is
    commands = [installed.mend("misaki"), installed.install_again(), *map(installed.add_extra, ("ja", "zh"))]
    monkeypatch.setattr(installed, "ROOT", str(tmp_path))  # a clone
    (tmp_path / "pyproject.toml").touch()
    commands.append(installed.lacking(["torch"]).remedy)
    assert [command for command in commands if " install --ignore-requires-python " not in command] == []
    assert "--ignore-requires-python" not in installed.pip("uninstall", "x")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_documents_install_on_every_python_that_they_name(page: str) -> None:
    commands = re.findall(r"pip install [^`&;#]*", (ROOT / page).read_text())
    assert commands
    assert [command for command in commands if "--ignore-requires-python" not in command] == []


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ({"url": "file:///home/a%20b/kokoro", "dir_info": {}}, "/home/a b/kokoro"),
        ({"url": "file:///x/kokoro%2B1.whl", "archive_info": {}}, "/x/kokoro+1.whl"),
        ({"url": "https://x.org/kokoro%2B1.whl", "archive_info": {}}, "https://x.org/kokoro%2B1.whl"),
        ({"url": "https://x.org/k", "vcs_info": {"vcs": "git", "commit_id": "1a"}}, "git+https://x.org/k"),
        (
            {"url": "file:///a%20b", "vcs_info": {"vcs": "hg", "requested_revision": "v1"}, "subdirectory": "py"},
            "hg+file:///a%20b@v1#subdirectory=py",
        ),
    ],
)
def test_where_it_came_from_is_told_as_pip_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, object], source: str
) -> None:
    folder = tmp_path / "kokoro_say-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: kokoro-say\nVersion: 0.1.0\n")
    (folder / "direct_url.json").write_text(json.dumps(told))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert shlex.split(installed.install_again())[-1] == source


def test_what_is_told_to_install_again_is_there() -> None:
    source = shlex.split(installed.install_again())[-1]
    assert (Path(source) / "pyproject.toml").exists() or source.startswith("http") or source == "SOURCE"
