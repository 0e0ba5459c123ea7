"""The methods of Turn at which failing_voice_server can be told to fail: no test may import that program itself."""

from __future__ import annotations

METHODS = (
    "end_text",
    "add_audio",
    "synthesized",
    "floor_granted",
    "floor_taken",
    "starting",
    "sounding",
    "all_heard",
    "pause",
    "resume",
    "tick",
    "deadline",
    "report",
)
