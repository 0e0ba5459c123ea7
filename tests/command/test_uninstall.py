"""--uninstall removes all of ours, asks first, and touches nothing else."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kokoro_common.command.uninstall import kept, parts, remove
from kokoro_common.documents.bookmark import Bookmark, Bookmarks
from kokoro_common.documents.document import Chapter, Document
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.recording.formats import Form
from kokoro_common.recording.recording import Plan
from kokoro_common.recording.rendering import Rendering
from kokoro_common.settings import Settings, resolve
from kokoro_common.text.speech import Speech
from tests.conftest import World

MANIFEST = load_manifest()
REPOSITORY = "models--" + MANIFEST.repo.replace("/", "--")
SNAPSHOT = Path(REPOSITORY, "snapshots", MANIFEST.revision)


def everything(folder: Path) -> dict[str, str]:
    """Every file and link, with what is in it, and every directory."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = "directory" if path.is_dir() else path.read_bytes().decode("latin-1")
    return found


def fill(folder: Path, *names: str | Path) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"contents of {name}")


def fill_with_ours(cache: Path, config: Path, runtime: Path) -> None:
    """One file of each kind that Kokoro Say writes."""
    wheel = MANIFEST.spacy.url.rpartition("/")[2] if MANIFEST.spacy else "x.whl"
    fill(cache / "hub" / SNAPSHOT, *MANIFEST.files, "voices/af_sky.pt.incomplete", "config.json.corrupt")
    fill(cache / "hub" / REPOSITORY / "snapshots" / ("0" * 40), "config.json")
    fill(
        cache,
        "hub/.lock",
        "measured.json",
        "measured.json.12.0a1b2c3d",
        "spacy/.lock",
        f"spacy/{wheel}.incomplete",
    )
    Bookmarks(str(cache)).keep(Bookmark(paths=(str(cache / "book.epub"),), digest="", place=0))
    fill(cache / "spacy", f"{'a' * 64}/en/en-1/config.cfg", f"{'b' * 64}.failed", f"{'c' * 64}.incomplete/x")
    fill(cache / "logs", "kokoro.log", "kokoro.log.4", "model_server.stderr", "voice_server-af_me2.log.1")
    fill(
        config,
        "config.toml",
        "lexicon",
        "lexicon.lock",
        "voices/af_mine.blend",
        "voices/af_me.pack",
        "voices/af_me.level",
    )
    fill(runtime, "token", "token.lock", "model.json", "model.lock", "model.start.lock", "voice-af_sky.json")
    fill(runtime, "voice-af_sky.start.lock", "floor.lock", ".kokoro-espeak/a/lib.so", ".token.12.0a1b2c3d")


def unfinished(output: Path) -> Path:
    """What a render into this file leaves that another call can go on with."""
    document = Document(text="x", chapters=(Chapter(title="", start=0, end=1),))
    rendering = Rendering(Plan(output=str(output), form=Form(), resumable=True), document, Speech())
    rendering.abandon()
    folder = Path(rendering.folder)
    folder.mkdir(exist_ok=True)
    return folder


def remove_all(settings: Settings) -> None:
    for part in parts(settings, settings.runtime_dir):
        remove(part)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The machine's Hugging Face cache."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "shared"))
    fill(tmp_path / "shared" / SNAPSHOT, *MANIFEST.files)
    return tmp_path / "shared"


def test_all_of_ours_goes_and_nothing_else(tmp_path: Path, no_hub: Path) -> None:
    """Every directory is the user's home, with files that look a little like ours."""
    home = tmp_path / "home"
    fill(home, "letter.txt", "logs/mail.log", "logs/kokoro.log.txt", "hub/models--other--model/snapshots/x/config.json")
    fill(home, "voices/song.blend", "voices/af_song.mp3", "model.jsonl", "tokens", "espeak/mine.wav", "lexicon.bak")
    fill(home, "spacy/en_core_web_sm/config.cfg", "my config.toml", ".config/x", "logs/voice_server-x/readme")
    fill(home / "hub" / SNAPSHOT, "weights.bin", "voices/mine.pt")
    before, shared = everything(home), everything(no_hub)
    fill_with_ours(home, home, home)
    assert len(everything(home)) > len(before) + 50
    settings = Settings(cache_dir=str(home), config_dir=str(home), log_dir=f"{home}/logs", runtime_dir=str(home))
    remove_all(settings)
    assert everything(home) == before
    assert everything(no_hub) == shared
    assert parts(settings, str(home)) == []


def test_links_are_not_followed(tmp_path: Path, no_hub: Path) -> None:
    elsewhere, cache = tmp_path / "elsewhere", tmp_path / "cache"
    fill_with_ours(elsewhere / "cache", elsewhere / "config", elsewhere / "runtime")
    before = everything(elsewhere)
    cache.mkdir()
    for name in ("hub", "spacy", "logs"):
        (cache / name).symlink_to(elsewhere / "cache" / name)
    (cache / "measured.json").symlink_to(elsewhere / "cache" / "measured.json")
    for name in ("config", "runtime", "cache2"):
        (tmp_path / name).symlink_to(elsewhere / name.removesuffix("2"))
    settings = Settings(cache_dir=str(cache), config_dir=str(tmp_path / "config"), log_dir=str(cache / "logs"),
                        runtime_dir=str(tmp_path / "runtime"))  # fmt: skip
    remove_all(settings)
    remove_all(settings.replace(cache_dir=str(tmp_path / "cache2"), log_dir=str(tmp_path / "cache2" / "logs")))
    assert everything(elsewhere) == before
    assert sorted(path.name for path in cache.iterdir()) == ["hub", "logs", "spacy"]


def test_links_below_the_cache_are_not_followed_either(tmp_path: Path, no_hub: Path) -> None:
    """huggingface_hub's own layout, copied or linked into our cache: files are links to blobs."""
    snapshot, blobs = tmp_path / "cache" / "hub" / SNAPSHOT, tmp_path / "cache" / "hub" / REPOSITORY / "blobs"
    fill(blobs, "1", "2")
    snapshot.mkdir(parents=True)
    (snapshot / MANIFEST.model).symlink_to(blobs / "1")
    (snapshot / "voices").symlink_to(no_hub / SNAPSHOT / "voices")
    (tmp_path / "other" / "hub").mkdir(parents=True)
    (tmp_path / "other" / "hub" / REPOSITORY).symlink_to(no_hub / REPOSITORY)
    before, shared = everything(tmp_path / "cache"), everything(no_hub)
    remove_all(Settings(cache_dir=str(tmp_path / "other"), config_dir="/nowhere", log_dir="/nowhere"))
    remove_all(Settings(cache_dir=str(tmp_path / "cache"), config_dir="/nowhere", log_dir="/nowhere"))
    assert (everything(tmp_path / "cache"), everything(no_hub)) == (before, shared)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_cache_that_is_the_machines_hugging_face_cache_stays(
    tmp_path: Path, no_hub: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv(variable, str(tmp_path / "both" / ("hub" if variable == "HF_HUB_CACHE" else "")))
    fill(tmp_path / "both" / "hub" / SNAPSHOT, *MANIFEST.files)
    fill(tmp_path / "both", "measured.json")
    before = everything(tmp_path / "both" / "hub")
    remove_all(Settings(cache_dir=str(tmp_path / "both"), config_dir="/nowhere", log_dir="/nowhere"))
    assert everything(tmp_path / "both" / "hub") == before
    assert not (tmp_path / "both" / "measured.json").exists()


def test_only_what_a_command_can_go_on_with_is_called_unfinished(
    tmp_path: Path, no_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    render = unfinished(tmp_path / "book.m4b")
    fill(
        tmp_path,
        ".kokoro-file-0123456789abcdef.part",
        ".kokoro-once-x1y2z3_4.part/lock",
        ".kokoro-0123456789abcdef.part",
    )
    lines = [line for line in kept(Settings(cache_dir="/nowhere")) if ".kokoro-" in line]
    assert lines == [f"  {render.name}: unfinished; the same command goes on with it"]


@pytest.fixture
def usual(world: World) -> World:
    """A world whose directories are the usual ones of a user, in a home of its own."""
    for name in ("KOKORO_CACHE_DIR", "KOKORO_CONFIG_DIR"):
        world.environment.pop(name)
    home = world.path / "home"
    world.cache = home / ".cache" / "kokoro"
    world.environment |= {"XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "HF_HOME": str(world.path / "hugging")}
    fill(home, "letter.txt", ".config/other/x", ".cache/other/x")
    return world


@pytest.mark.e2e
def test_after_ordinary_use_nothing_is_left_but_what_is_not_ours(usual: World) -> None:
    home = usual.path / "home"
    before = everything(home)
    shared = usual.path / "hugging" / "hub" / SNAPSHOT
    fill(shared, "config.json")
    usual.runtime.mkdir(0o700, exist_ok=True)
    usual.runtime.chmod(0o700)
    fill(usual.runtime, "espeak/mine.wav")  # which a user may have named
    assert usual.say("-o", "x.wav", "hello").returncode == 0
    assert usual.say("-v", "am_adam", "-o", "y.wav", "hello").returncode == 0
    assert usual.say("--lex", "add", "Nguyen", "win").returncode == 0
    assert usual.say("-v", "af_bella,af_sky", "--save-voice", "af_mine").returncode == 0
    render = unfinished(usual.path / "book.m4b")
    unasked = everything(home)
    servers = usual.servers()
    assert len(servers) >= 3 and len(unasked) > len(before) + 5

    refused = usual.say("--uninstall")
    assert refused.returncode == 2
    line = "say.py: --uninstall asks before it removes anything, here nobody can answer; add --yes\n"
    assert refused.stderr == line
    assert "servers    3 running" in refused.stdout
    for told in (usual.runtime, usual.cache, home / ".config" / "kokoro", shared.parent.parent.parent):
        assert f"{told}" in refused.stdout
    assert f"{render.name}: unfinished" in refused.stdout
    assert max(len(line.replace(str(usual.path), "")) for line in refused.stdout.splitlines()) <= 80
    assert [each for each in unasked if each not in everything(home)] == []
    assert [each for each in servers if not each.is_running()] == []

    done = usual.say("--uninstall", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip uninstall kokoro-say" in done.stdout.splitlines()[-1] or "directory" in done.stdout.splitlines()[-1]
    assert everything(home) == before
    assert everything(usual.runtime) == {"espeak": "directory", "espeak/mine.wav": "contents of espeak/mine.wav"}
    shutil.rmtree(usual.runtime / "espeak")
    assert usual.servers() == []
    assert (shared / "config.json").exists() and (usual.path / "x.wav").exists()
    assert render.exists()
    again = usual.say("--uninstall")
    assert again.returncode == 0 and again.stdout.startswith("There is nothing to remove.\n")
    assert everything(home) == before


def answered(world: World, answer: bytes) -> tuple[int, str]:
    """say.py --uninstall on a terminal where somebody types."""
    master, terminal = pty.openpty()
    try:
        process = subprocess.Popen([sys.executable, world.program, "--uninstall"], cwd=world.path,
                                   env=world.environment, stdin=terminal, stdout=subprocess.PIPE)  # fmt: skip
        os.write(master, answer)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out.decode()
    finally:
        os.close(master)
        os.close(terminal)


@pytest.mark.e2e
@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"yess\n", b"\x04"], ids=repr)
def test_any_answer_but_yes_removes_nothing(usual: World, answer: bytes) -> None:
    assert usual.say("--lex", "add", "Nguyen", "win").returncode == 0
    before = everything(usual.path / "home")
    code, out = answered(usual, answer)
    assert code == 0
    assert out.endswith("Remove it? [y/N] Nothing was removed.\n")
    assert everything(usual.path / "home") == before


@pytest.mark.e2e
def test_yes_removes(usual: World) -> None:
    before = everything(usual.path / "home")
    assert usual.say("--lex", "add", "Nguyen", "win").returncode == 0
    code, out = answered(usual, b"y\n")
    assert code == 0 and "lexicon" not in str(everything(usual.path / "home"))
    assert everything(usual.path / "home") == before
    assert "The program itself" in out


@pytest.mark.e2e
def test_our_unit_is_stopped_and_removed_and_others_stay(usual: World) -> None:
    units = usual.path / "home" / ".config" / "systemd" / "user"
    fill(units, "other.service")
    (units / "default.target.wants").mkdir()
    before = everything(usual.path / "home")
    page = Path(__file__).parent.parent.parent / "docs" / "kokoro-say.service"
    shutil.copy(page, units / "kokoro-say.service")
    (units / "default.target.wants" / "kokoro-say.service").symlink_to(units / "kokoro-say.service")
    (usual.path / "bin").mkdir()
    (usual.path / "bin" / "systemctl").write_text('#!/bin/sh\necho "$@" >> asked\n')
    (usual.path / "bin" / "systemctl").chmod(0o755)
    usual.environment["PATH"] = f"{usual.path / 'bin'}:/usr/bin:/bin"
    done = usual.say("--uninstall", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kokoro-say.service" in done.stdout
    assert (usual.path / "asked").read_text() == "--user disable --now kokoro-say.service\n"
    left = everything(usual.path / "home")
    assert left.pop(".config/systemd/user/default.target.wants", "") in ("", "directory")
    before.pop(".config/systemd/user/default.target.wants")
    assert left == before
    fill(units, "kokoro-say.service")  # another's, under our name
    assert usual.say("--uninstall", "--yes").returncode == 0
    assert (units / "kokoro-say.service").exists()


def test_what_cannot_be_removed_is_named(usual: World) -> None:
    usual.environment["KOKORO_CONFIG_DIR"] = str(usual.path / "config")
    assert usual.say("--lex", "add", "Nguyen", "win").returncode == 0
    code = (
        "import os, say, sys\n"
        "real = os.unlink\n"
        "def unlink(path, **how):\n"
        "    if str(path).endswith('lexicon'):\n"
        "        raise PermissionError(13, 'Permission denied', path)\n"
        "    real(path, **how)\n"
        "os.unlink = unlink\n"
        "sys.exit(say.main(['--uninstall', '--yes', '-q']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, env=usual.environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    lexicon = usual.path / "config" / "lexicon"
    line = f"say.py: {lexicon} cannot be removed: Permission denied; remove it, then run say.py --uninstall again\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_a_directory_that_a_user_has_named_stays(tmp_path: Path) -> None:
    """It may be a mount, or a home: only what we made in it goes."""
    from kokoro_common.command.uninstall import _own_folders

    settings = resolve({}, {"HOME": "/h", "KOKORO_CACHE_DIR": "/data", "KOKORO_CONFIG_DIR": "/etc/x",
                            "KOKORO_RUNTIME_DIR": "/run/x"})  # fmt: skip
    assert not {"/data", "/etc/x", "/run/x"} & set(_own_folders(settings, "/run/x"))
    assert json.dumps(_own_folders(settings, "/run/x")).count("/data/") == 4
