"""The messenger: tells the user on stderr what is being waited for, and hands audio to the output."""

from __future__ import annotations

import sys
import time

from kokoro_common.client.conversation import Audio
from kokoro_common.command.arguments import note
from kokoro_common.command.name import NAME
from kokoro_common.command.signals import SIGNALS
from kokoro_common.errors import MAX_LINE, KokoroError, shell_word, shown
from kokoro_common.wire.messages import Accepted, ChunkSpoken, Explained, Notice, Progress, ServerState, Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.client.conversation import Event
    from kokoro_common.command.follower import Follower
    from kokoro_common.recording.recording import SpeechOutput
    from kokoro_common.wire.messages import Finished


class Messenger:
    """Follows one utterance, or one download. On a terminal it keeps one progress line, elsewhere it prints notes."""

    def __init__(self, *, quiet: bool, log: str = "") -> None:
        """`log`: the log file to name with the utterance's id; empty: name none."""
        self._log = log
        self.output: SpeechOutput | None = None
        self.follower: Follower | None = None
        self.engine = ""
        self.started_at = 0.0  # time.monotonic() at the first audio; 0.0: there was none
        self._quiet = quiet
        self._fraction = 0.0  # of the text, rendered by an earlier call
        self._bar = sys.stderr.isatty() and not quiet
        self._line = ""  # on the terminal now, to be overwritten
        self._last_state = ""

    def hear(self, event: Event) -> None:
        """Shows an event, and hands audio to the output. Blocks as the output does."""
        if isinstance(event, ServerState):
            self._show_state(event)
        elif isinstance(event, Notice):
            self.notice(event.text)
        elif isinstance(event, Accepted) and self._log:
            self.notice(f"utterance {event.utterance}: grep {event.utterance} {self._log}")
        elif isinstance(event, Explained):
            self.end_line()
            print(
                shown(event.text), *([f"    {shown(event.phonemes)}"] if event.phonemes else []), sep="\n", flush=True
            )
        elif isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, Started):
            self.end_line()
            self.engine = event.engine
            self.started_at = time.monotonic()  # not before: loading the model tells nothing of the rest
        if isinstance(event, (Started, Audio, ChunkSpoken)) and self.output is not None:
            self._record(self.output, event)

    def notice(self, text: str, remedy: str = "") -> None:
        note(text, remedy, quiet=self._quiet)

    def _show_state(self, message: ServerState) -> None:
        if self._quiet or message.state in ("starting", "default", "failed"):
            return
        if message.state == "ready":
            self.end_line()
        elif message.state == "loading":
            self._show("loading the model")
        elif self._bar:
            self._show(f"downloading {message.detail} {bar(message.fraction)}")
        elif self._last_state != message.state:
            self._show(f"downloading {message.detail}")
        self._last_state = message.state

    def _show_progress(self, message: Progress) -> None:
        if self.follower is not None:
            self.follower.show(message.word_start, message.word_end)
        elif self._bar and self.output is not None and not self.output.fraction:
            self._show(f"{message.seconds:.1f} s written")

    def _record(self, output: SpeechOutput, event: Started | Audio | ChunkSpoken) -> None:
        if output.encoded:
            with SIGNALS:
                output.take(event)
        else:
            output.take(event)  # may wait for a pipe's reader, so a signal must end it
        if isinstance(event, ChunkSpoken) and self._bar and output.fraction:
            done = output.fraction - self._fraction
            left = (time.monotonic() - self.started_at) * (1.0 - output.fraction) / done if done > 0.0 else 0.0
            self._show(f"{bar(output.fraction)}  {clock(output.seconds)} of audio, {roughly(left)} left")

    def goes_on(self, output: SpeechOutput) -> None:
        """The output is a render that an earlier call began."""
        self._fraction = output.fraction
        self.notice(
            f"going on at {output.fraction:.0%}, behind {clock(output.seconds)} of audio",
            f"to begin anew: rm -r {shell_word(output.folder)}",
        )

    def finish(self) -> None:
        """Completes the output. Blocks until its files are there."""
        if self.output is None:
            return
        if self.output.encoded:
            with SIGNALS:
                self.output.finish(self._encoding)
        else:
            self.output.finish(self._encoding)

    def _encoding(self, share: float) -> None:
        if self._bar:
            self._show(f"encoding {bar(share)}")

    def abandon(self, error: BaseException) -> None:
        """Gives the output up. If what there is was kept, the user is told with the error's line, or in a note."""
        self.end_line()
        if self.output is None or not self.output.abandon():
            return
        kept = f"{clock(self.output.seconds)} of audio are kept: the same command goes on there"
        if isinstance(error, KokoroError):
            error.args = (f"{error.line}; {kept}",)
        else:
            self.notice(kept)

    def end_line(self) -> None:
        """Takes the progress line away."""
        if self._line:
            print(f"\r{' ' * len(self._line)}\r", end="", file=sys.stderr, flush=True)
            self._line = ""

    def _show(self, line: str) -> None:
        line = shown(line, MAX_LINE)
        if self._bar:
            print(f"\r{line.ljust(len(self._line))}", end="", file=sys.stderr, flush=True)
            self._line = line
        else:
            note(line, quiet=self._quiet)


def print_timing(finished: Finished, messenger: Messenger, began: float) -> None:
    """The line of --timing. `began`: time.monotonic() at the start of the call."""
    times = finished.timing
    first = (messenger.started_at - began) * 1000 if messenger.started_at else 0.0
    total = time.monotonic() - began
    at_work = times.get("engine", 0.0) / max(times.get("synthesis", 0.0), 1e-9)
    parts = ", ".join(f"{name} {times.get(name, 0.0) * 1000:.0f} ms" for name in ("g2p", "queue", "model"))
    print(
        f"{NAME.prefix}: {messenger.engine}: first audio after {first:.0f} ms ({parts}), "
        f"{finished.seconds:.2f} s of audio in {total:.2f} s, "
        f"the engine at work {at_work:.1%} of the time, {finished.underflows} underflows",
        file=sys.stderr,
    )


def bar(fraction: float) -> str:
    """[#####.....]  50%, 37 columns."""
    filled = round(fraction * 30)
    return f"[{'#' * filled}{'.' * (30 - filled)}] {fraction:4.0%}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60 // 1:02.0f}"


def roughly(seconds: float) -> str:
    """A time that is left, as precise as an estimate can be: 40 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
