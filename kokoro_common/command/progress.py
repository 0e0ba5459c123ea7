"""The messenger: tells the user on stderr what is being waited for, and hands audio to the output."""

from __future__ import annotations

import os
import sys
import time
from collections import deque

from kokoro_common.client.conversation import Audio
from kokoro_common.command.arguments import note
from kokoro_common.command.name import NAME
from kokoro_common.command.signals import SIGNALS
from kokoro_common.command.terminal import clock, columns, cut, gauge, megabytes, roughly, width_of
from kokoro_common.errors import MAX_LINE, KokoroError, shell_word, shown
from kokoro_common.wire.messages import Accepted, ChunkSpoken, Explained, Notice, Progress, ServerState, Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.client.conversation import Event
    from kokoro_common.command.follower import Follower
    from kokoro_common.recording.recording import SpeechOutput
    from kokoro_common.wire.messages import Finished


RATE_SECONDS = 10.0  # of a download, over which its rate is taken


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
        self._noted = ""  # the last line about a state, where there is no terminal
        self._download = Download()

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
            self._show(message.detail or "loading the model")
        elif self._download.takes(message, time.monotonic()) or self._bar:
            self._show_gauge(f"downloading {_content_of(message.detail)}", message.fraction, self._download.details)

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
            details = (f"{roughly(left)} left", f"{clock(output.seconds)} of audio")
            self._show_gauge("writing", output.fraction, details)

    def goes_on(self, output: SpeechOutput) -> None:
        """The output is a render that an earlier call began."""
        self._fraction = output.fraction
        self.notice(
            f"going on at {output.fraction:.0%}, after {clock(output.seconds)} of audio",
            f"to begin again: rm -r {shell_word(output.folder)}",
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
            self._show_gauge("encoding", share, ())

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
            print(f"{self._over('')}\r", end="", file=sys.stderr, flush=True)
            self._line = ""

    def suspended(self, now: bool) -> None:
        """The process is about to be stopped by its shell, or goes on: the shell and others have written since.

        For a signal handler, in the midst of a print perhaps: it writes past the buffers.
        """
        if now and self._line:
            os.write(2, f"{self._over('')}\r".encode())
        self._line = ""
        if self.follower is not None and not now:
            self.follower.begin_line()

    def _show_gauge(self, label: str, fraction: float, details: tuple[str, ...]) -> None:
        if self._bar:
            self._show(gauge(label, fraction, details, width_of(2) - 1))
        else:
            self._show(f"{label}: {details[0]} ({fraction:.0%})" if details else label)

    def _show(self, line: str) -> None:
        line = shown(line, MAX_LINE)
        if self._bar:
            line = cut(line, width_of(2) - 1)
            print(self._over(line), end="", file=sys.stderr, flush=True)
            self._line = line
        elif line != self._noted:
            note(line, quiet=self._quiet)
            self._noted = line

    def _over(self, line: str) -> str:
        """What replaces the line on the terminal by another one. It wraps if the terminal has become narrower."""
        before = columns(self._line)
        if rows := max(0, before - 1) // width_of(2):
            return f"\x1b[{rows}A\r\x1b[J{line}"  # up to its first row, and all from there on is erased
        return f"\r{line}{' ' * (before - columns(line))}"


def _content_of(file: str) -> str:
    """What a file of the hub holds, for a person."""
    name = file.rpartition("/")[2]
    if file.startswith("voices/"):
        return f"the voice {name.removesuffix('.pt')}"
    return "spaCy's English model" if name.endswith(".whl") else "the model"


class Download:
    """The course of a download: what is worth a line where there is no terminal, and its rate."""

    def __init__(self) -> None:
        self.details: tuple[str, ...] = ()
        self._samples: deque[tuple[float, int]] = deque()  # (time.monotonic(), bytes)
        self._tenth = -1

    def takes(self, state: ServerState, now: float) -> bool:
        """Whether another tenth has come, or another download has begun."""
        done, total = state.done, state.total
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
            self._tenth = -1
        self._samples.append((now, done))
        while self._samples[-1][0] - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        before, tenth = self._tenth, int(state.fraction * 10)
        self._tenth = max(before, tenth)
        self.details = (megabytes(done, total), *self._pace(total - done)) if total else (state.detail,)
        return tenth > before

    def _pace(self, rest: int) -> tuple[str, ...]:
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        if now - began < 1.0 or last == first:
            return ()
        rate = (last - first) / (now - began)
        return f"{roughly(rest / rate)} left", f"{rate / 1e6:.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:.0f} kB/s"


def print_timing(finished: Finished, messenger: Messenger, began: float) -> None:
    """The line of --timing. `began`: time.monotonic() at the start of the call."""
    times = finished.timing
    first = (messenger.started_at - began + times.get("lead", 0.0)) * 1000 if messenger.started_at else 0.0
    total = time.monotonic() - began
    at_work = times.get("engine", 0.0) / max(times.get("synthesis", 0.0), 1e-9)
    parts = ", ".join(f"{name} {times.get(name, 0.0) * 1000:.0f} ms" for name in ("g2p", "queue", "model"))
    print(
        f"{NAME.prefix}: {messenger.engine}: first sound after {first:.0f} ms ({parts}), "
        f"{finished.seconds:.2f} s of audio in {total:.2f} s, "
        f"the engine at work {at_work:.1%} of the time, {finished.underflows} underflows",
        file=sys.stderr,
    )
