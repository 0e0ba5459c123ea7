"""--help: every flag is there, what is common fits a screen, no line is wider than the terminal."""

from __future__ import annotations

import re

import pytest

import say  # noqa: F401 - registers the flags
from kokoro_common.command.arguments import EXIT_CODES, flags
from kokoro_common.command.help import help_text


@pytest.mark.parametrize("width", [24, 40, 50, 59, 60, 79, 80, 200])
@pytest.mark.parametrize("everything", [True, False])
def test_help_is_no_wider_than_the_terminal_and_loses_no_word(everything: bool, width: int) -> None:
    text = help_text(everything=everything, width=width)
    assert max(map(len, text.splitlines())) <= min(width, 80)
    told = "".join(text.split())
    for flag in flags():
        if everything or flag.common:
            assert "".join((flag.term + flag.help).split()) in told, flag.names
    for code, meaning in EXIT_CODES.items():
        assert f"{code}{meaning}".replace(" ", "") in told


def test_the_first_screen_has_what_is_common_and_says_where_the_rest_is() -> None:
    text = help_text(everything=False, width=80)
    assert len(text.splitlines()) <= 50
    assert re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.MULTILINE) == [
        flag.names[-1] for flag in flags() if flag.common
    ]
    assert "--help all" in text.splitlines()[-1]


def test_a_name_and_what_it_does_stand_on_one_line_where_there_is_room() -> None:
    for flag in flags():
        if flag.common:
            line = f" {re.escape(flag.term)} +{re.escape(flag.help)}\n"
            assert re.search(line, help_text(everything=True, width=80)), flag.names
