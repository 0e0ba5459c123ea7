"""The stream that the player opens, with a PortAudio that refuses."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import pytest

from kokoro_common.sound import portaudio
from kokoro_common.sound.player import Player
from kokoro_common.sound.portaudio import PortAudioStream, ResampledFill, devices
from tests.helpers.recorder import no_device


class PortAudioError(Exception):
    pass


@pytest.fixture
def fake_sounddevice(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    names = [
        {"name": "attic", "max_output_channels": 2, "hostapi": 0},
        {"name": "microphone", "max_output_channels": 0, "hostapi": 0},
        {"name": "cellar", "max_output_channels": 2, "hostapi": 0},
    ]

    def query_devices(device: int | None = None, kind: str = "") -> Any:
        return names[2] if kind else names if device is None else names[device]

    fake = mock.Mock(PortAudioError=PortAudioError, _initialized=1)
    fake.query_devices.side_effect = query_devices
    fake.query_hostapis.return_value = {"name": "ALSA"}
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(portaudio, "_alsa_is_empty", lambda: False)
    monkeypatch.setattr(PortAudioStream, "count", 0)
    monkeypatch.setattr(PortAudioStream, "stale", False)
    return fake


def real_stream(device: str = "") -> PortAudioStream:
    return PortAudioStream(lambda *_: None, lambda: None, device)


def opened_rates(fake: mock.Mock) -> list[int | None]:
    return [call.kwargs["samplerate"] for call in fake.RawOutputStream.call_args_list]


def fake_stream(rate: float = 24_000.0) -> mock.Mock:
    return mock.Mock(samplerate=rate, device=0, time=1.5)


MISSING = PortAudioError("Error querying device -1")
UNKNOWN = ValueError("No output device matching 'loft'")


def test_a_device_that_refuses_24_khz_is_opened_at_its_own_rate(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [PortAudioError("Invalid sample rate"), fake_stream(48_000.0)]
    assert isinstance(real_stream()._fill, ResampledFill)
    assert opened_rates(fake_sounddevice) == [24_000, None]
    fake_sounddevice._terminate.assert_not_called()


def test_a_device_plugged_in_since_is_found(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [MISSING, MISSING, fake_stream()]
    real_stream()
    fake_sounddevice.assert_has_calls([mock.call._terminate(), mock.call._initialize()])


def test_portaudio_is_not_initialized_anew_under_an_open_stream(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream(), MISSING, MISSING, MISSING, MISSING, fake_stream()]
    stream = real_stream()
    with no_device():
        real_stream()
    devices()
    fake_sounddevice._terminate.assert_not_called()
    assert stream.stop() == 1.5
    fake_sounddevice.RawOutputStream.side_effect = [MISSING, MISSING, fake_stream()]
    real_stream()
    fake_sounddevice._terminate.assert_called_once()


def test_after_a_loss_the_devices_are_listed_anew(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream(), fake_stream()]
    stream = real_stream("attic")
    assert stream.device == "attic, ALSA"
    fake_sounddevice.RawOutputStream.call_args.kwargs["finished_callback"]()
    stream.stop()
    real_stream(stream.device).stop()
    fake_sounddevice._terminate.assert_called_once()


def test_without_any_device_the_remedy_is_named(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = MISSING
    with no_device(r"no audio device \(.*-1\); plug one in, or write a file with -o out.wav"):
        real_stream()


def test_an_unknown_device_is_answered_with_the_known_ones(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = UNKNOWN
    player = Player(PortAudioStream)
    player.begin("loft")
    with no_device(r"'loft' does not name one audio device; choose from: attic, cellar$"):
        player.play()


def test_devices_are_listed_the_default_one_first(fake_sounddevice: mock.Mock) -> None:
    assert devices() == ["cellar (default)", "attic"]
    fake_sounddevice._initialize.assert_called_once()
    fake_sounddevice.query_devices.side_effect = MISSING
    with no_device("plug one in"):
        devices()


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(portaudio, "_alsa_is_empty", lambda: False)
    for use in real_stream, devices:
        with no_device(r"PortAudio is missing .*; install libportaudio2"):
            use()


def test_portaudios_flag_reaches_the_player(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream()]
    gaps = []
    PortAudioStream(lambda *arguments: gaps.append(arguments[3]), lambda: None, "")
    callback = fake_sounddevice.RawOutputStream.call_args.kwargs["callback"]
    for flag in (False, True):
        callback(bytearray(480), 240, mock.Mock(), mock.Mock(output_underflow=flag))
    assert gaps == [False, True]
