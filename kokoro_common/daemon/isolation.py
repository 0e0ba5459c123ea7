"""What a server gives up at its start: privileges by exec, core files, files that others may read.

Costs under 3 ms, the import of ctypes included. Nothing here is fatal: where the system refuses, speech goes on and the
returned record says which restrictions do not hold.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

from kokoro_common.record import Record

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_PR_GET_NO_NEW_PRIVS = 39
_FILES = 4096  # descriptors: 1,024 connections and what torch, PortAudio and downloads open beside them


class Isolation(Record):
    """The restrictions of this process and all its children."""

    umask: str  # octal
    no_new_privs: bool  # no setuid program gives it more than it has; Linux only
    core_limit: int  # bytes of a core file, which would hold what was spoken
    file_limit: int  # descriptors; resource.RLIM_INFINITY: unlimited


def harden() -> Isolation:
    """Restricts this process. Call it before the server opens or creates anything. Idempotent.

    The process stays dumpable: PR_SET_DUMPABLE 0 would give /proc/PID to root, and psutil could tell the user neither
    the environment nor the limits of the user's own servers. Who may ptrace whom is the system's to say.
    """
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        _limit(resource.RLIMIT_NOFILE, max(soft, most), hard)
    return Isolation(
        umask="077",
        no_new_privs=_give_up_new_privileges(),
        core_limit=resource.getrlimit(resource.RLIMIT_CORE)[0],
        file_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _limit(which: int, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError):
        pass  # a sandbox may forbid it, macOS has a lower ceiling than the hard limit says; the record tells


def _give_up_new_privileges() -> bool:
    """Whether the kernel confirms that it took effect."""
    if sys.platform != "linux":
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False  # a Python without dynamic loading
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
