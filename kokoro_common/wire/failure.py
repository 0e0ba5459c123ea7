"""Errors to Failed messages and back: the only place that knows both."""

from __future__ import annotations

from kokoro_common.errors import KokoroError, ServersBusy, error_for
from kokoro_common.wire.messages import Failed, ProtocolError


def failed(utterance: str, error: Exception, *, log: str = "") -> Failed:
    """What a client is told of an error. `log`: whose log has an unexpected one, whose own words stay there."""
    if isinstance(error, KokoroError):
        retry_after = error.retry_after if isinstance(error, ServersBusy) else 0.0
        return Failed(utterance=utterance, code=error.exit_code, text=error.line, retry_after=retry_after)
    if isinstance(error, ProtocolError):
        return Failed(utterance=utterance, code=1, text=f"{error}; see docs/protocol.md")
    return Failed(utterance=utterance, code=1, text=f"{type(error).__name__}; see the {log}'s log")


def error_of(message: Failed) -> KokoroError:
    """The exception that a Failed message stands for."""
    return ServersBusy(message.retry_after) if message.retry_after else error_for(message.code, message.text)
