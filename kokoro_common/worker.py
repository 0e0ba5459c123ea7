"""The `serve` function of a module, run in a process of its own: for libraries that may crash or take too much."""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package lies, installed or not
_BOOTSTRAP = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).serve(*sys.argv[3:])"
)


def command(module: str, *arguments: str, options: tuple[str, ...] = ("-P",)) -> list[str]:
    """The command line of a Python process that calls `module.serve(*arguments)`.

    `options` are the interpreter's: "-P" leaves the working directory out of the search path; "-I", "-S" leave out
    everything but the standard library and this package.
    """
    return [sys.executable, *options, "-c", _BOOTSTRAP, ROOT, module, *arguments]
