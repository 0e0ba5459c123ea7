"""Words found in one string of phonemes, where a comparison does not show them."""

from __future__ import annotations

import pytest

from kokoro_common.phonemes import alignment
from kokoro_common.phonemes.alignment import _aligned, runs_between_marks


def test_a_long_stretch_that_differs_is_shared_out_by_length() -> None:
    text = "abcd efgh ij"
    parts = _aligned("wwwwxxxx zz", text, runs_between_marks(text), alone=str)
    assert [(part.phonemes, text[part.start : part.end]) for part in parts if part.end] == [
        ("wwww", "abcd"),
        ("xxxx", "efgh"),
        (" zz", "ij"),
    ]


def test_a_text_too_long_to_compare_is_shared_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_MOST_COMPARED", 2)
    test_a_long_stretch_that_differs_is_shared_out_by_length()
