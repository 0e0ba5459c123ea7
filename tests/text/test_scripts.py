from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.text.scripts import runs


@pytest.mark.parametrize(
    ("text", "lang", "parts"),
    [
        ("plain words", "a", [("plain words", "a")]),
        ("", "a", [("", "a")]),
        ("He said नमस्ते, दोस्त! and left", "a", [("He said ", "a"), ("नमस्ते, दोस्त", "h"), ("! and left", "a")]),
        ("The word 東京 is", "b", [("The word ", "b"), ("東京", "z"), (" is", "b")]),
        ("The word 東京へ is", "b", [("The word ", "b"), ("東京へ", "j"), (" is", "b")]),
        ("東京へ行く。OK", "j", [("東京へ行く。OK", "j")]),
        ("我爱こんにちは世界", "z", [("我爱", "z"), ("こんにちは", "j"), ("世界", "z")]),
        ("我爱北京", "z", [("我爱北京", "z")]),
        ("नमस्ते world", "h", [("नमस्ते world", "h")]),
        ("Привет", "a", [("Привет", "a")]),
        ("。。。", "a", [("。。。", "a")]),
        ("They said 你好，世界！ twice", "a", [("They said ", "a"), ("你好，世界！", "z"), (" twice", "a")]),
        ("of 人々 and ｶﾞｷ", "a", [("of ", "a"), ("人々", "z"), (" and ", "a"), ("ｶﾞｷ", "j")]),
        ("豈 is old", "a", [("豈", "z"), (" is old", "a")]),
    ],
)
def test_the_script_tells_the_language_where_that_is_certain(
    text: str, lang: str, parts: list[tuple[str, str]]
) -> None:
    assert [(text[start:end], its_lang) for start, end, its_lang in runs(text, lang)] == parts


@given(st.text("ab ,.。नम中あ\n"), st.sampled_from("abefhijpz"))
def test_stretches_follow_each_other(text: str, lang: str) -> None:
    found = runs(text, lang)
    assert "".join(text[start:end] for start, end, _ in found) == text
    assert all(start < end for start, end, _ in found) or found == [(0, 0, lang)]
