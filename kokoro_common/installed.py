"""How Kokoro Say and its libraries are installed here, as commands that add, mend or remove them.

It is on no package index: what can be installed by name are its libraries only, and itself from where it came.
"""

from __future__ import annotations

import os
import sys

from kokoro_common.errors import KokoroError

DISTRIBUTION = "kokoro-say"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # a clone, or site-packages
UNDECLARED_PYTHON = (3, 13)  # misaki's code runs on it and on later ones, its metadata say otherwise
IGNORING = "--ignore-requires-python"
SERVERS_NEED = ("numpy", "msgspec", "psutil", "torch")  # modules; without one of them no server gets to work


def pip(verb: str, *words: str) -> str:
    """The command line that lets pip do something with this interpreter's packages."""
    import shlex
    from importlib.util import find_spec

    if find_spec("pip") is not None:
        undeclared = verb == "install" and sys.version_info >= UNDECLARED_PYTHON
        return shlex.join([sys.executable, "-m", "pip", verb, *([IGNORING] if undeclared else []), *words])
    # uv makes environments without pip; it looks at no upper bound of a Python.
    return shlex.join(["uv", "pip", verb, "--python", sys.executable, *words])


def mend(*names: str) -> str:
    """The command that installs libraries again."""
    return pip("install", "--force-reinstall", "--no-deps", *names)


def add_extra(extra: str) -> str:
    """The command that installs what an extra brings."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        named = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # a clone whose libraries were installed by name
        return pip("install", f"{ROOT}[{extra}]")
    wanted = [each for each in named if re.search(rf"extra == ['\"]{extra}['\"]", each)]
    return pip("install", *(re.split(r"[\s<>=!~;]", each)[0] for each in wanted))


def install_again() -> str:
    """The command that installs Kokoro Say itself again, its compiled part for this processor and this Python."""
    source = _source()
    return pip("install", "--force-reinstall", "--no-cache-dir", "--no-deps", source or "SOURCE")


def uninstall() -> str:
    """The command that removes the package; empty for a clone that was never installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return ""
    return pip("uninstall", DISTRIBUTION)


def check_libraries() -> None:
    """Raises KokoroError, with what to run instead, if this Python has not what servers need. Imports nothing."""
    from importlib.util import find_spec

    if missing := [name for name in SERVERS_NEED if find_spec(name) is None]:
        raise lacking(missing)


def lacking(modules: list[str]) -> KokoroError:
    """The error of an interpreter in which Kokoro Say is not installed, or not all of it."""
    problem = f"{sys.executable} has no {', '.join(modules)}"
    command = os.path.join(ROOT, ".venv", "bin", "kokoro-say")
    if os.access(command, os.X_OK) and not sys.executable.startswith(os.path.dirname(command) + os.sep):
        return KokoroError(problem, f"run {command}")
    if os.path.exists(os.path.join(ROOT, "pyproject.toml")):
        line = f"python3 -m venv .venv && .venv/bin/pip install {IGNORING} -c constraints.txt ."
        return KokoroError(problem, f"install it: cd {ROOT} && {line}")
    return KokoroError(problem, f"run {pip('install', *([_source()] if _source() else modules))}")


def _source() -> str:
    """What this was installed from, as pip takes it: a directory, archive or repository; empty if that is not known."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote

    try:
        told = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        told = {}
    url = str(told.get("url", ""))
    if not url and os.path.exists(os.path.join(ROOT, "pyproject.toml")):
        return ROOT
    if repository := told.get("vcs_info"):
        revision = f"@{repository['requested_revision']}" if repository.get("requested_revision") else ""
        folder = f"#subdirectory={told['subdirectory']}" if told.get("subdirectory") else ""
        return f"{repository['vcs']}+{url}{revision}{folder}"
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else url
