"""What a turn knows of the world: its client, the speakers, the model server. Tests put their own in these places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kokoro_common.wire.messages import Message, ServerState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    class Client(Protocol):
        """Who hears of the utterance. `written` is set when the message is on its way, whatever becomes of us."""

        def post(self, message: Message, payload: bytes = b"", written: threading.Event | None = None) -> None: ...
        def offer(self, message: Message) -> bool: ...  # if the next one replaces it; not to a client that is behind

    class Speakers(Protocol):
        """What plays; see speaker_thread.SpeakerThread. No call blocks; `heard` and the like are of what plays now."""

        def speak(self, utterance: str, device: str, environment: tuple[str, ...] | None = None) -> None: ...
        def silence(self, utterance: str) -> None: ...
        def feed(self, samples: NDArray[np.float32]) -> None: ...
        def finish(self) -> None: ...
        def pause(self) -> None: ...
        def resume(self) -> None: ...
        def let_go(self) -> None: ...
        def close(self) -> None: ...
        def join(self, seconds: float) -> None: ...
        @property
        def heard(self) -> int: ...
        @property
        def underflows(self) -> int: ...
        @property
        def paused(self) -> bool: ...
        @property
        def busy_since(self) -> float | None: ...


class Model:
    """The model server, as far as turns know it."""

    def __init__(self, post: Callable[[Message], None]) -> None:
        """`post` sends it a message, or drops it while there is no connection: on a new one all is said again."""
        self.post = post
        self.connected = False
        self.state = ServerState(state="starting")
        self._reasons: set[str] = set()  # for which there is no model, as clients have been told

    def has_new_reason(self) -> bool:
        """Whether it is to be told why there is no model: for each reason once in the life of the voice server."""
        new = self.state.detail not in self._reasons
        self._reasons.add(self.state.detail)
        return new


class Waits:
    """How long a writer may pause in a sentence before what there is of it is spoken, in seconds."""

    def __init__(self, clause: float, word: float) -> None:
        self.clause = clause
        self.word = word
