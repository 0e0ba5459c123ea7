"""Where an utterance stands in its voice server: its client, its floor, its mouth. One thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.wire.reports import UtteranceReport

if TYPE_CHECKING:
    from kokoro_common.speaking.speaker_thread import Mouth
    from kokoro_common.speaking.utterance import Utterance
    from kokoro_common.wire.messages import Message
    from kokoro_common.wire.server import Peer


class Place:
    """Where an utterance of this server stands: its client, its floor, its mouth."""

    def __init__(self, utterance: Utterance, client: Peer, mouth: Mouth | None) -> None:
        self.utterance = utterance
        self.client: Peer | None = client  # None when it has left and did not want to wait
        self.mouth = mouth  # None: its audio goes to the client
        self.floor = (
            ""  # "", "asked", "next", "granted" (the mouth is taking it) or "held" (the player takes its audio)
        )
        self.floor_asked = 0.0  # time.monotonic() when it was asked for
        self.admitted = False  # by the model server: it is in the ledger
        self.started = False
        self.fed = False
        self.credit = 0  # bytes of audio the client will take

    @property
    def taken(self) -> int:
        """Frames heard, or sent to the client."""
        if self.mouth is None:
            return self.utterance.frames_handed_on
        return self.mouth.player.heard if self.floor == "held" else 0

    @property
    def underflows(self) -> int:
        return self.mouth.player.underflows if self.mouth is not None and self.floor == "held" else 0

    @property
    def paused(self) -> bool:
        return self.mouth is not None and self.floor == "held" and self.mouth.player.paused

    def silence(self) -> None:
        if self.mouth is not None:
            self.mouth.silence(self.utterance.id)

    def pause(self) -> None:
        assert self.mouth is not None
        self.mouth.player.pause()

    def resume(self) -> None:
        assert self.mouth is not None
        self.mouth.player.resume()

    def tell(self, message: Message, payload: bytes = b"") -> None:
        if self.client is not None:
            self.client.post(message, payload)

    def report(self) -> UtteranceReport:
        state = "writing" if self.mouth is None else "waiting" if self.floor != "held" else "speaking"
        return UtteranceReport(
            utterance=self.utterance.id,
            voice=self.utterance.voice.name,
            state="paused" if self.paused else state,
            seconds=round(self.taken / SAMPLE_RATE, 1),
            client=self.utterance.route.client,
            age_s=round(time.monotonic() - self.utterance.began, 3),
        )
