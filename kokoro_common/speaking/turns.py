"""All utterances of a voice server, in the order of acceptance, and what concerns several. No I/O, one thread."""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import TYPE_CHECKING

from kokoro_common.errors import KokoroError, NoAudioDevice
from kokoro_common.speaking.in_flight import Backlog
from kokoro_common.speaking.pace import Pace
from kokoro_common.speaking.turn import Turn
from kokoro_common.speaking.utterance import Utterance
from kokoro_common.wire.messages import (
    MAX_REPORTS,
    TEXT_CREDIT,
    Failed,
    Message,
    ProtocolError,
    ServerState,
    Speak,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kokoro_common.speaking.ports import Client, Model, Speakers, Waits

TEXT_BYTES = 8 << 20  # text buffered for all utterances; above this, one may buffer only MIN_TEXT_CREDIT
MIN_TEXT_CREDIT = 64 << 10  # bytes of text that an utterance may always buffer
IDS_REMEMBERED = 1024  # of utterances that have ended: they are not to be used again

log = logging.getLogger("kokoro")


class Turns:
    """Counts are utterances since the server's start."""

    def __init__(
        self, model: Model, speakers: Callable[[bool], Speakers], waits: Waits, clock: Callable[[], float]
    ) -> None:
        """`speakers(overlap)`: those of the floor, or some of an utterance's own, which are closed after it."""
        self.ended = dict.fromkeys(("finished", "cancelled", "failed"), 0)
        self.last_used = clock()  # seconds, when the last utterance ended
        self.device_lost = False  # an utterance has failed for want of an audio device
        self._model = model
        self._speakers = speakers
        self._waits = waits
        self._clock = clock
        self._pace = Pace()
        self._backlog = Backlog()
        self._turns: dict[str, Turn] = {}
        self._ended: deque[str] = deque(maxlen=IDS_REMEMBERED)
        self._text_room = TEXT_BYTES  # that clients may send ahead and have not got credit for

    def __len__(self) -> int:
        return len(self._turns)

    def get(self, utterance: str) -> Turn | None:
        return self._turns.get(utterance)

    def of(self, client: object, utterance: str) -> Turn | None:
        """The utterance, if it is this client's. One that has ended is no error: the messages crossed."""
        turn = self._turns.get(utterance)
        return turn if turn is not None and turn.client is client else None

    @property
    def all(self) -> list[Turn]:
        """A copy: a turn may end while one goes through them."""
        return list(self._turns.values())

    @property
    def aloud(self) -> list[Turn]:
        """Those for the speakers."""
        return [turn for turn in self.all if turn.speakers is not None]

    @property
    def counts(self) -> dict[str, int]:
        """For Register. Accepted are those that have ended and those that the model server has admitted."""
        return {"accepted": sum(self.ended.values()) + len(self.admitted), **self.ended}

    @property
    def admitted(self) -> tuple[str, ...]:
        """The ids of those that are in the model server's ledger."""
        return tuple(turn.utterance.id for turn in self.all if turn.admitted)

    def status(self) -> Status:
        now, reports = self._clock(), []
        self._each(lambda turn: reports.append(turn.report(now)))
        reports.sort(key=lambda each: each.state in ("waiting", "writing"))
        return Status(utterances=tuple(reports[:MAX_REPORTS]), more=len(reports[MAX_REPORTS:]))

    # --- opening and ending ------------------------------------------------------------------------------------------

    def open(self, message: Speak, client: Client, own_voices: Mapping[str, str] | None = None) -> Turn:
        """Raises ProtocolError for an id that was used, a KokoroError for fields that make no sense."""
        known = message.utterance in self._turns or message.utterance in self._ended
        if known or not re.fullmatch("[0-9a-f]{32}", message.utterance):
            raise ProtocolError("an utterance needs a new id of 32 hex digits")
        room = max(MIN_TEXT_CREDIT, min(TEXT_CREDIT, self._text_room // 4))
        utterance = Utterance(message, self._pace, self._clock(), room, own_voices, self._backlog)
        aloud = message.route.sink == "speakers"
        speakers = self._speakers(message.route.floor == "overlap") if aloud else None
        turn = Turn(utterance, client, speakers, self._model, self._waits, self._turn_ended)
        self._turns[utterance.id] = turn
        self._text_room -= utterance.text_credit
        return turn

    def begin(self, turn: Turn) -> None:
        """Asks for its place; one that interrupts cancels what else is spoken here, at once."""

        def cancel_others() -> None:
            self._cancel([each for each in self.aloud if each is not turn])

        turn.begin(self._clock(), cancel_others)

    def _turn_ended(self, turn: Turn, outcome: str, message: Message) -> None:
        """Gives back what it held, and counts it; one that was never accepted counts for nothing."""
        utterance = turn.utterance
        del self._turns[utterance.id]
        self._ended.append(utterance.id)
        self._text_room += utterance.text_credit
        self.last_used = self._clock()
        if outcome == "busy":
            return
        self.ended[outcome] += 1
        details: dict[str, object] = {"utterance": utterance.id, "seconds": round(utterance.seconds, 3)}
        if isinstance(message, Failed):
            details["reason"] = message.text
            self.device_lost |= message.code == NoAudioDevice.exit_code
        log.info(outcome, extra=details)

    # --- to several --------------------------------------------------------------------------------------------------

    def stop(self) -> int:
        """Cancels all speech, spoken or waiting; files go on. Returns how many utterances it took effect on."""
        return self._cancel(self.aloud)

    def skip(self, utterances: Collection[str]) -> int:
        """Cancels these, if they are being spoken."""
        return self._cancel([turn for turn in self.aloud if turn.speaking and turn.utterance.id in utterances])

    def cancel_all(self) -> int:
        return self._cancel(self.all)

    def _cancel(self, turns: list[Turn]) -> int:
        """All are silenced before the books of the first are closed: they may be hundreds."""
        self._each(Turn.silence, turns)
        self._each(Turn.cancel, turns)
        return len(turns)

    def pause(self, utterance: str = "") -> int:
        """What is being spoken; or one utterance, which does not begin either if it still waits."""
        now = self._clock()
        loud = [turn for turn in self.aloud if not turn.paused]
        chosen = [turn for turn in loud if (turn.utterance.id == utterance if utterance else turn.speaking)]
        self._each(lambda turn: turn.pause(now), chosen)
        return len(chosen)

    def resume(self, utterance: str = "") -> int:
        """One utterance, or all that are paused."""
        now = self._clock()
        paused = [turn for turn in self.aloud if turn.paused and utterance in ("", turn.utterance.id)]
        self._each(lambda turn: turn.resume(now), paused)
        return len(paused)

    def _each(self, action: Callable[[Turn], None], turns: list[Turn] | None = None) -> None:
        """Does it to all, or to these; an error of one ends that one, and neither the others nor the server."""
        for turn in self.all if turns is None else turns:
            try:
                action(turn)
            except KokoroError as error:  # in the text, which is cut as it is needed: SSML that is none
                turn.fail(error)
            except Exception as error:
                log.exception("an utterance failed", extra={"utterance": turn.utterance.id})
                turn.fail(error)

    def client_gone(self, client: object) -> None:
        self._each(Turn.client_gone, [turn for turn in self.all if turn.client is client])

    def fail_all(self, error: KokoroError) -> None:
        self._each(lambda turn: turn.fail(error))

    # --- the model server --------------------------------------------------------------------------------------------

    def model_changed(self, state: ServerState) -> None:
        self._model.state = state

        def tell(turn: Turn) -> None:
            if not turn.utterance.engine:
                turn.offer(state)
            turn.model_changed(self._clock())

        self._each(tell)  # a text that is cut now may turn out to be faulty

    def model_lost(self) -> None:
        """What has been synthesized is played on."""
        self._model.connected = False
        self._model.state = ServerState(state="starting")
        self._each(Turn.model_lost)

    def model_found(self) -> None:
        """Another one: it is told of all utterances, then asked for what the last one has not answered."""
        self._each(lambda turn: turn.model_found(self._clock()))
        self._each(lambda turn: turn.resume_requests(self._clock()))

    # --- the clock ---------------------------------------------------------------------------------------------------

    def tick(self, now: float, *, progress: bool) -> None:
        self._each(lambda turn: turn.tick(now, progress=progress))

    def deadline(self, now: float) -> float:
        """When one of them wants a tick; infinity: none does."""
        deadlines = [float("inf")]
        self._each(lambda turn: deadlines.append(turn.deadline(now)))
        return min(deadlines)
