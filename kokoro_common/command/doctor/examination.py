"""say.py --doctor: looks at all that speech needs here; a line each for what is well and what to do about the rest.

A check is a function of the settings that returns a few words, or raises the error that say.py would end with. Each
runs in a forked process of its own: a library that crashes, hangs or prints makes one line too, and nothing that one
check imports can disturb the next. Nothing is fetched, set aside or ended; servers that have to be started for the
measurement have a runtime directory of their own and are shut down afterwards.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import tempfile
import time
import warnings

from kokoro_common.command.doctor import files, installation, servers
from kokoro_common.command.doctor.findings import Check, Finding
from kokoro_common.errors import SAY, KokoroError, UsageError
from kokoro_common.settings import NAMES, Found, Settings, look_up, not_a_setting, settings_in
from kokoro_common.text.defaults import defaults_in
from kokoro_common.voices.user_voices import own_voices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import NoReturn

CHECKS = (
    Check(name="install", look=installation.packages),
    Check(name="sound", look=installation.sound, seconds=30.0, remedy="restart the sound server"),
    Check(name="model", look=files.model),
    Check(name="voices", look=files.voices),
    Check(name="disk", look=files.disk),
    Check(name="port", look=servers.port),
    Check(name="runtime", look=files.runtime_directory),
    Check(name="cache", look=files.cache_directory),
    Check(name="logs", look=files.log_directory),
    Check(name="config", look=files.config_directory),
    Check(name="english", look=installation.english, seconds=180.0),
    Check(name="languages", look=installation.other_languages, seconds=120.0),
    Check(name="kernel", look=installation.kernel),
    Check(name="servers", look=servers.servers),
    Check(name="errors", look=servers.logged_errors),
    Check(name="speed", look=servers.speed, seconds=180.0, remedy=f"see {SAY} --status, then run {SAY} --shutdown"),
)


def examine(flags: Mapping[str, object]) -> Iterator[Finding]:
    """Yields one finding per check, as soon as it is made. Raises nothing. Blocks, some 20 s on a healthy machine."""
    try:
        found = look_up(flags)
        yield judged_settings(found)
        settings, _ = settings_in(found)
        scratch = tempfile.mkdtemp(prefix="kokoro-doctor-")
    except UsageError as error:
        yield Finding(check="settings", text=error.line, exit_code=error.exit_code)
        return
    except OSError as error:
        text = f"no temporary file can be made: {error.strerror}; make room in /tmp or set TMPDIR"
        yield Finding(check="scratch", text=text, exit_code=1)
        return
    try:
        for check in CHECKS:
            yield outcome(check, settings, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # a killed check leaves files, too


def judged_settings(found: Found) -> Finding:
    """The first value that does not fit, else all names that are no settings. The other checks go on without them."""
    _, problems = settings_in(found)
    try:
        if problems:
            raise problems[0]
        defaults_in(found, own_voices(os.path.dirname(found.path)))
    except KokoroError as error:
        return Finding(check="settings", text=error.line, exit_code=error.exit_code)
    if found.unknown:
        text = " ".join(map(not_a_setting, found.unknown))
        return Finding(check="settings", text=text, exit_code=UsageError.exit_code)
    names = ", ".join(name for name in NAMES if name in found.given) or "none"
    return Finding(check="settings", text=f"{names} set; {SAY} --config shows all")


def outcome(check: Check, settings: Settings, scratch: str) -> Finding:
    """Runs one check in a process of its own, with `scratch` as its TMPDIR. Blocks for check.seconds at most."""
    reading, writing = os.pipe()
    child = os.fork()  # there is no other thread, and the child imports what the check needs
    if child == 0:
        _answer(check, settings, scratch, writing)
    os.close(writing)
    try:
        answer = _read_within(reading, check.seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it has answered, or it hangs
        status = os.waitpid(child, 0)[1]
    if answer:
        return Finding(**json.loads(answer))
    if answer is None:
        problem = f"no answer within {check.seconds:.0f} s"
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        problem = f"a library crashes ({signal.Signals(os.WTERMSIG(status)).name})"
    else:
        problem = "a library ends the process, or memory is short"
    return Finding(check=check.name, text=f"{problem}; {check.remedy}", exit_code=1)


def _answer(check: Check, settings: Settings, scratch: str, writing: int) -> NoReturn:
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)  # ALSA, for one, prints messages
        warnings.simplefilter("ignore")  # libraries warn about their own future
        tempfile.tempdir = scratch
        os.write(writing, json.dumps(judged(check, settings).as_dict()).encode())
    finally:
        os._exit(0)


def judged(check: Check, settings: Settings) -> Finding:
    try:
        return Finding(check=check.name, text=check.look(settings))
    except KokoroError as error:
        return Finding(check=check.name, text=error.line, exit_code=error.exit_code)
    except ImportError as error:
        return Finding(check=check.name, text=f"{error}; install Kokoro Say again", exit_code=1)
    except Exception as error:  # a bug that breaks speech may break the check, too, and is a finding
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(check=check.name, text=f"{text}; please report it", exit_code=1)


def _read_within(descriptor: int, seconds: float) -> bytes | None:
    """Everything up to the end of the stream; None if the end does not come in time."""
    answer = b""
    deadline = time.monotonic() + seconds
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(descriptor, 1 << 16)
        if not data:
            return answer
        answer += data
    return None
