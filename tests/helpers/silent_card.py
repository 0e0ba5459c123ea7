"""A silent sound card: a private PulseAudio with a null sink whose monitor is recorded, and ALSA routed to it.

PortAudio, ALSA and PulseAudio are the real ones; only the hardware is missing. The sink takes mono int16 at 24 kHz, so
a client that plays that is recorded sample for sample. Needs the Debian packages of PACKAGES; without them the tests
are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.requirements import missing

SAMPLE_RATE = 24_000  # Hz
PACKAGES = {  # Debian package: is it there?
    "pulseaudio": lambda: shutil.which("pulseaudio"),
    "pulseaudio-utils": lambda: shutil.which("parec"),
    "libportaudio2": lambda: ctypes.util.find_library("portaudio"),
    "libasound2-plugins": lambda: glob.glob("/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so"),
}
ASOUND_CONF = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"  # in place of all of ALSA's configuration


class Capture:
    """What the card has played: `samples` int16 (frames,), from before the first client's sound on."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._data = bytearray()
        self._arrived = threading.Condition()
        self._parec = subprocess.Popen(
            [
                "parec",
                "--raw",
                "-d",
                "test.monitor",
                "--format=s16le",
                "--rate=24000",
                "--channels=1",
                "--latency-msec=5",
            ],
            env=environment,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._wait_for(1)  # the monitor of an idle sink gives zeros: it is recording now

    @property
    def samples(self) -> NDArray[np.int16]:
        return np.frombuffer(bytes(self._data), np.int16)

    def finish(self) -> None:
        """Returns when all that has been played so far is in `samples`, which is then complete."""
        try:
            self._wait_for(
                SAMPLE_RATE // 2
            )  # what comes later was played later: half a second is far beyond its buffers
        finally:
            self._parec.terminate()
            self._parec.wait()
            self._reader.join()

    def wait_for_sound(self, frames: int) -> None:
        """Returns when so many frames have been recorded since the first that is not silent."""
        with self._arrived:
            heard = self._arrived.wait_for(lambda: len(np.trim_zeros(self.samples, "f")) >= frames, 30)
            assert heard, "the silent card gives no sound"

    def end(self) -> None:
        """After the card was unplugged: `samples` is what was recorded before."""
        self._parec.wait()
        self._reader.join()

    def _wait_for(self, frames: int) -> None:
        with self._arrived:
            target = len(self._data) + 2 * frames
            assert self._arrived.wait_for(lambda: len(self._data) >= target, 30), "the silent card gives no sound"

    def _read(self) -> None:
        assert self._parec.stdout is not None
        with self._parec.stdout as stdout:
            while data := os.read(stdout.fileno(), 65536):
                with self._arrived:
                    self._data += data
                    self._arrived.notify_all()


class SilentCard:
    """`environment` makes a client process play on this card and nowhere else."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        socket = os.path.join(directory, "native")
        alsa = os.path.join(directory, "asound.conf")
        with open(alsa, "w") as file:
            file.write(ASOUND_CONF)
        self.environment = {
            "ALSA_CONFIG_PATH": alsa,
            "JACK_NO_START_SERVER": "1",  # Debian's PortAudio looks for JACK too
            "PULSE_COOKIE": os.path.join(directory, "cookie"),
            "PULSE_RUNTIME_PATH": directory,
            "PULSE_SERVER": f"unix:{socket}",
            "XDG_RUNTIME_DIR": directory,
        }
        self._modules = (
            f"module-native-protocol-unix socket={socket} auth-anonymous=1",
            # norewinds: without it the sink plays in blocks of 2 seconds
            f"module-null-sink sink_name=test rate={SAMPLE_RATE} channels=1 format=s16le norewinds=1",
        )

    def plug_in(self) -> None:
        """Starts the sound server and returns when it takes clients."""
        server_environment = os.environ | self.environment | {"HOME": self.directory, "LC_ALL": "C"}
        del server_environment["PULSE_SERVER"]
        self._server = subprocess.Popen(
            [
                "pulseaudio",
                "-n",
                "-v",
                "--daemonize=no",
                "--use-pid-file=no",
                "--exit-idle-time=-1",
                "--log-target=stderr",
            ]
            + [argument for module in self._modules for argument in ("-L", module)],
            env=server_environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._server.stderr is not None
        log = []
        for line in self._server.stderr:
            log.append(line)
            if "Daemon startup complete" in line:
                break
        else:
            pytest.fail("pulseaudio did not start:\n" + "".join(log))
        self._drain = threading.Thread(target=self._server.stderr.read)
        self._drain.start()

    def unplug(self) -> None:
        """Kills the sound server: every client loses its device."""
        self._server.kill()
        self._server.wait()
        self._drain.join()
        assert self._server.stderr is not None
        self._server.stderr.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, "native"))

    def hang(self) -> None:
        """The sound server stays but answers no one. `unplug` ends it all the same."""
        self._server.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """Records from entering the block to leaving it; `samples` is complete after it."""
        capture = Capture(os.environ | self.environment)
        try:
            yield capture
        finally:
            capture.finish()


@pytest.fixture
def silent_card() -> Iterator[SilentCard]:
    if lacking := [package for package, present in PACKAGES.items() if not present()]:
        missing(f"no silent sound card: apt-get install {' '.join(lacking)}")
    with tempfile.TemporaryDirectory(prefix="kokoro-card-") as directory:  # a short path: it holds a socket
        card = SilentCard(directory)
        card.plug_in()
        try:
            yield card
        finally:
            card.unplug()
