"""How the model server is started, and the environment it needs: for clients and voice servers, which import no engine.

glibc, OpenMP and oneDNN read their variables once, when the process or torch begins, so the starter has to set them.
"""

from __future__ import annotations

import os
import sys

from kokoro_common.daemon.starter import Program, ensure
from kokoro_common.installed import ROOT, check_libraries
from kokoro_common.settings import without_call_defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kokoro_common.daemon.runtime_directory import RuntimeDirectory
    from kokoro_common.settings import Settings
    from kokoro_common.wire.connection import Connection

MODEL_PROGRAM = os.path.join(ROOT, "model_server.py")  # a test may put another one here

_BEFORE_TORCH = {
    # oneDNN and torch keep compiled kernels for each input shape, 21 MB a length, without end unless they are bounded.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
    "LRU_CACHE_CAPACITY": "8",
    # Threads that wait for the next operation sleep instead of spinning: beside other work a forward takes half of the
    # time and of the processor. The samples are the same.
    "OMP_WAIT_POLICY": "passive",
    "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # the CPU does what Metal has no kernel for
}
# Environment of the process that runs the engine.
ENVIRONMENT = {
    **_BEFORE_TORCH,
    # One heap for all threads. Else each has several that never shrink, the synthesis thread does not find what the
    # loader's has freed, half a gigabyte, and the holes that one length of speech leaves are too small for the next.
    "MALLOC_ARENA_MAX": "1",
    # glibc gives large blocks back to the system after each forward and faults them in again: 5 to 20 % of the time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def ensure_model_server(
    runtime: RuntimeDirectory, settings: Settings, environment: Mapping[str, str] = os.environ
) -> Connection:
    """A connection to the model server, which is started if it does not run. Blocks and raises as starter.ensure."""
    check_libraries()
    program = Program(
        name="model",
        path=MODEL_PROGRAM,
        # The runtime directory may not be the usual one; a child would choose again.
        environment={
            **ENVIRONMENT,
            **without_call_defaults(environment),
            **settings.environment(),
            "KOKORO_RUNTIME_DIR": runtime.path,
        },
        stderr_path=os.path.join(settings.log_dir, "model_server.stderr"),
    )
    return ensure(runtime, program)


def begin_with_environment() -> None:
    """Starts a program that was started by hand again, in the same process, if a variable of ENVIRONMENT is missing.

    Call it first. Variables that the user has set stay as they are. Returns if none is missing, else does not return.
    """
    if missing := {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def without_engine(environment: Mapping[str, str]) -> dict[str, str]:
    """A model server's environment for a child that runs no engine: without ENVIRONMENT, so that its heaps may shrink.

    A variable that the user has set to another value stays.
    """
    return {name: value for name, value in environment.items() if ENVIRONMENT.get(name) != value}


def prepare_environment() -> None:
    """Sets the part of ENVIRONMENT that torch reads at its import, where the process was started without it."""
    for name, value in _BEFORE_TORCH.items():
        os.environ.setdefault(name, value)
