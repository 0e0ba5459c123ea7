"""The voice server with a recorder, which fails on request with the spoken text in the exception.

Or its device does: asked for a text with "the device sticks" in it, it never returns from the stop of that speech.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import voice_server
from kokoro_common.speaking import turns
from kokoro_common.speaking.turn import Turn
from tests.faults.failures import METHODS
from tests.helpers.recorder_voice_server import RecordedVoiceServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kokoro_common.speaking.speaker_thread import Sounding
    from kokoro_common.wire.messages import TextPart
    from kokoro_common.wire.server import Peer


class FailingVoiceServer(RecordedVoiceServer):
    _sticking = ""

    def handle_text_part(self, peer: Peer, message: TextPart) -> None:
        if "fails in the voice server" in message.text:
            raise RuntimeError(message.text)
        if "the device sticks" in message.text:
            self._sticking = message.utterance
        super().handle_text_part(peer, message)

    def handle_sounding(self, peer: None, message: Sounding) -> None:
        if message.utterance == self._sticking:
            for recorder in self.recorders:
                recorder.may_stop.clear()
        super().handle_sounding(peer, message)


class FailingTurn(Turn):
    """Each of METHODS fails once for an utterance whose text says so."""

    said = ""

    def add_text(self, text: str, now: float) -> None:
        self.said += text
        super().add_text(text, now)


def failing(name: str) -> Callable[..., Any]:
    method = getattr(Turn, name)

    def call(turn: FailingTurn, *arguments: Any, **options: Any) -> Any:
        if f"the turn fails in {name}." in turn.said:
            turn.said = ""
            raise RuntimeError(name)
        return method(turn, *arguments, **options)

    return call


if __name__ == "__main__":
    for each in METHODS:
        setattr(FailingTurn, each, failing(each))
    turns.Turn = FailingTurn  # type: ignore[misc]
    sys.exit(voice_server.main(server=FailingVoiceServer))
