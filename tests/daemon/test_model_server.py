"""The environment of the process that runs the engine: given by its starter, or taken by a program started by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kokoro_common.daemon import model_server

ROOT = Path(__file__).parent.parent.parent


def test_the_kernel_caches_are_bounded_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "99")
    model_server.prepare_environment()
    bound = model_server.ENVIRONMENT["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == bound == "8"
    assert os.environ["LRU_CACHE_CAPACITY"] == "99"


BY_HAND = """
import sys
sys.path.insert(0, sys.argv[1])
from kokoro_common.daemon import model_server
print("begun", flush=True)
model_server.begin_with_environment()
import os
print(os.getpid(), sys.argv[2:], {name: os.environ.get(name) for name in model_server.ENVIRONMENT})
assert not sys.modules.keys() & {"torch", "numpy", "subprocess"}
"""


def run_by_hand(tmp_path, **environment):
    program = tmp_path / "program.py"
    program.write_text(BY_HAND)
    clean = {name: value for name, value in os.environ.items() if name not in model_server.ENVIRONMENT}
    started = subprocess.Popen(
        [sys.executable, "-W", "error", str(program), str(ROOT), "an argument", "-x"],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    return started.communicate(timeout=30)[0].splitlines(), started.pid


def test_a_program_started_by_hand_begins_again_with_the_environment(tmp_path):
    (*begun, last), pid = run_by_hand(tmp_path)
    assert begun == ["begun", "begun"]
    assert last == f"{pid} {['an argument', '-x']} {model_server.ENVIRONMENT}"


def test_what_the_user_has_set_stays_and_nothing_begins_twice_without_need(tmp_path):
    own = {**model_server.ENVIRONMENT, "MALLOC_ARENA_MAX": "3"}
    (*begun, last), pid = run_by_hand(tmp_path, **own)
    assert begun == ["begun"]
    assert last == f"{pid} {['an argument', '-x']} {own}"


def test_processes_without_an_engine_do_without_its_environment():
    environment = {**model_server.ENVIRONMENT, "MALLOC_ARENA_MAX": "3", "HOME": "/"}
    assert model_server.without_engine(environment) == {"MALLOC_ARENA_MAX": "3", "HOME": "/"}
