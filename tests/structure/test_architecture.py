"""docs/architecture.md names every file and every thread that there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = ("say.py", "model_server.py", "voice_server.py")
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def listed_files(page: str) -> set[str]:
    """The paths in the page's first code block, where each folder and file has a line of its own."""
    folders: list[str] = []
    files = set()
    for line in page.split("```")[1].strip("\n").splitlines():
        found = re.fullmatch(r"( *)(\S+?)(/?)(?:  +(\S.*))?", line)
        assert found, line
        indent, name, folder, description = found.groups()
        del folders[len(indent) // 2 :]
        if folder:
            folders.append(name)
        else:
            assert description, f"{name} has no description"
            path = "/".join([*folders, name])
            assert path not in files, f"{path} is listed twice"
            files.add(path)
    return files


def existing_files(root: Path) -> set[str]:
    """The programs and the files of the package; without each package's __init__.py."""
    package = (
        path.relative_to(root).as_posix()
        for path in (root / "kokoro_common").rglob("*")
        if path.is_file() and path.name != "__init__.py" and path.suffix not in (".pyc", ".so", ".o")
    )
    return {*PROGRAMS, *package}


def named_threads(sources: list[str]) -> set[str]:
    """Names given to threads; `*` stands for what is filled in."""
    found = (name for source in sources for name in re.findall(r'Thread\((?:[^"]|"\w*")*?name=f?"([^"]+)"', source))
    return {re.sub(r"\{[^}]*\}", "*", name) for name in found}


def test_the_tree_lists_exactly_the_files_that_exist() -> None:
    listed, existing = listed_files(PAGE), existing_files(ROOT)
    assert sorted(existing - listed) == [], "in the code, but not in docs/architecture.md"
    assert sorted(listed - existing) == [], "in docs/architecture.md, but not in the code"


def test_the_thread_tables_name_every_thread() -> None:
    paths = [*(ROOT / name for name in PROGRAMS), *(ROOT / "kokoro_common").rglob("*.py")]
    threads = named_threads([path.read_text() for path in paths])
    assert len(threads) > 10
    tables = set(re.findall(r"`([^`\s]+)`", PAGE))
    assert threads - tables == set()


@pytest.mark.parametrize(
    ("tree", "files"),
    [
        ("a.py  x\nb/\n  c.py  y\n  d/  z\n    e.py  x\nf.py  x", {"a.py", "b/c.py", "b/d/e.py", "f.py"}),
        ("b/\n  c/\n    d.py  x\n  e.py  x", {"b/c/d.py", "b/e.py"}),
    ],
)
def test_a_tree_is_read_by_its_indentation(tree: str, files: set[str]) -> None:
    assert listed_files(f"text\n```\n{tree}\n```\n") == files


@pytest.mark.parametrize("tree", ["a.py", "a.py  x\na.py  x"])
def test_a_file_without_a_description_or_listed_twice_is_seen(tree: str) -> None:
    with pytest.raises(AssertionError):
        listed_files(f"```\n{tree}\n```")


def test_a_new_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "kokoro_common" / "text").mkdir(parents=True)
    (tmp_path / "kokoro_common" / "text" / "new.py").touch()
    assert "kokoro_common/text/new.py" in existing_files(tmp_path) - listed_files(PAGE)


def test_threads_are_found_with_their_names() -> None:
    source = 'Thread(target=f, args=("x",), name=f"{role}-writer", daemon=True)\nThread(target=g, name="g2p")'
    assert named_threads([source]) == {"*-writer", "g2p"}
