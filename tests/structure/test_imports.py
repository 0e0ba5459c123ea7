"""Imports: the contracts in pyproject.toml hold and are seen to fail, and what starts often imports nothing heavy."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
HEAVY = {name for contract in CONTRACTS if "Heavy" in contract["name"] for name in contract["forbidden_modules"]}


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINT_IMPORTS, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)


def test_the_contracts_are_kept() -> None:
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "code", "contract"),
    [
        ("voices/catalogue.py", "from kokoro_common.text import edits", "Imports point downward"),
        ("daemon/process.py", "def late():\n    from kokoro_common.engine import engine", "Imports point downward"),
        ("wire/upward.py", "TYPE_CHECKING = 0\nif TYPE_CHECKING:\n    import kokoro_common.client.client", "downward"),
        ("homeless/__init__.py", "", "Imports point downward"),
        ("daemon/record.py", "from kokoro_common.daemon import starter", "No cycles inside a package"),
        ("client/client.py", "from kokoro_common.hub import cache", "know nothing of the model"),
        ("text/edits.py", "def late():\n    import torch.nn", "Heavy modules stay with their owners"),
    ],
)
def test_an_import_that_breaks_a_contract_is_seen(tmp_path: Path, module: str, code: str, contract: str) -> None:
    shutil.copytree(ROOT / "kokoro_common", tmp_path / "kokoro_common", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "kokoro_common" / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{code}\n")
    done = linted(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(contract in line for line in broken), broken


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.stem)
def test_the_programs_own_no_heavy_module(path: Path) -> None:
    """The linter knows packages only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert "kokoro_common" in {name.split(".")[0] for name in names}
    assert {name.split(".")[0] for name in names} & HEAVY == set()


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import say; say.main(['--version'])", "numpy torch sounddevice huggingface_hub msgspec socket"),
        ("import kokoro_common.client.client", "numpy torch sounddevice huggingface_hub msgspec typing subprocess"),
        ("import voice_server", "torch misaki kokoro huggingface_hub soundfile psutil"),
        ("import model_server", "numpy torch misaki kokoro spacy huggingface_hub sounddevice psutil"),
    ],
)  # fmt: skip
def test_a_fresh_interpreter_imports_nothing_heavy(code: str, forbidden: str) -> None:
    script = f"{code}; import sys; print('LOADED', *[m for m in {forbidden.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
