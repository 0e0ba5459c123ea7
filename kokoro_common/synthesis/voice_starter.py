"""Starts voice servers, and ends one that hangs: each on a thread of its own, as it blocks for seconds."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from kokoro_common.daemon import starter
from kokoro_common.daemon.model_server import without_engine
from kokoro_common.errors import KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import without_call_defaults
from kokoro_common.wire.messages import SOUND_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kokoro_common.daemon.runtime_directory import RuntimeDirectory
    from kokoro_common.settings import Settings

log = logging.getLogger("kokoro")


class VoiceStartFailed(Record):
    voice: str
    error: KokoroError


class VoiceStarted(Record):
    """It listens; or did already, and was looking for a model server. It registers by itself."""

    voice: str


class VoiceStarter:
    """No method blocks. What comes of a start is reported from another thread, as VoiceStarted or VoiceStartFailed."""

    def __init__(
        self, settings: Settings, runtime: RuntimeDirectory, program: str, report: Callable[[Record], None]
    ) -> None:
        """`program`: the path of voice_server.py."""
        self._settings = settings
        self._runtime = runtime
        self._program = program
        self._report = report

    def start(self, name: str, sound: Mapping[str, str]) -> None:
        """`sound`: what the asking shell has of SOUND_VARIABLES; other variables are passed over."""
        arguments = (name, self._environment(sound))
        try:
            threading.Thread(target=self._start, args=arguments, name=f"start-{name}", daemon=True).start()
        except RuntimeError as error:
            problem = ServersUnreachable(f"there is no thread to start voice server {name}: {error}", "try again")
            self._report(VoiceStartFailed(voice=name, error=problem))

    def end_hung(self, name: str) -> None:
        """Ends that voice server if it neither answers nor works."""
        try:
            threading.Thread(target=self._end_hung, args=(name,), name=f"end-{name}", daemon=True).start()
        except RuntimeError as error:
            log.warning("the hung voice server goes on", extra={"voice": name, "reason": str(error)})

    def _environment(self, sound: Mapping[str, str]) -> dict[str, str]:
        inherited = without_call_defaults(os.environ)  # which a model server that was started by hand may have
        own = {key: value for key, value in inherited.items() if not key.startswith(SOUND_VARIABLES)}
        theirs = {
            key: value
            for key, value in sound.items()
            if key.startswith(SOUND_VARIABLES) and "=" not in key and "\0" not in key + value
        }
        return without_engine(own) | theirs | self._settings.environment() | {"KOKORO_RUNTIME_DIR": self._runtime.path}

    def _start(self, name: str, environment: dict[str, str]) -> None:
        program = starter.Program(
            name=f"voice-{name}",
            path=self._program,
            arguments=(name,),
            environment=environment,
            stderr_path=os.path.join(self._settings.log_dir, f"voice_server-{name}.stderr"),
            on_exit=lambda code: self._exited(name, code),
        )
        try:
            starter.ensure(self._runtime, program).close()
            self._report(VoiceStarted(voice=name))
        except KokoroError as error:
            self._report(VoiceStartFailed(voice=name, error=error))
        except OSError as error:
            problem = ServersUnreachable(f"voice server {name} cannot be started: {error}", "try again")
            self._report(VoiceStartFailed(voice=name, error=problem))

    def _exited(self, name: str, code: int) -> None:
        note = log.info if code == 0 else log.error
        note("voice server exited", extra={"voice": name, "code": code})
        try:
            if code:
                starter.remove_stale_record(self._runtime, f"voice-{name}")
        except (KokoroError, OSError) as error:  # a hint, which nobody believes who is not answered
            log.warning("a stale record stays", extra={"voice": name, "reason": str(error)})

    def _end_hung(self, name: str) -> None:
        try:
            starter.end_hung(self._runtime, f"voice-{name}")
        except (KokoroError, OSError) as error:
            log.warning("the hung voice server goes on", extra={"voice": name, "reason": str(error)})
