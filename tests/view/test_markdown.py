"""Markdown around text that nobody vouches for."""

import pytest

from fabric.view import markdown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain words, a_b and 3.5", "plain words, a_b and 3.5"),
        ("*a* _b_ `c`", "\\*a\\* \\_b\\_ \\`c\\`"),
        ("__init__", "\\_\\_init\\_\\_"),
        ("# no heading", "\\# no heading"),
        ("- no list", "\\- no list"),
        ("1. no list", "1\\. no list"),
        ("a\nb", "a\\\\x0ab"),
        ("http://x www.x", "http:/\\/x www\\.x"),
    ],
)
def test_running_text(value: str, expected: str) -> None:
    assert markdown.text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "`x`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("", ""),
        (" a ", "`  a  `"),
    ],
)
def test_code_spans(value: str, expected: str) -> None:
    assert markdown.code(value) == expected


def test_messages_mark_names_by_backticks() -> None:
    assert markdown.prose("the `a_b|c` is *bad*") == "the `a_b|c` is \\*bad\\*"
    assert markdown.prose("one ` only") == "one \\` only"


def test_a_bar_does_not_end_a_cell_and_a_fence_does_not_close() -> None:
    assert markdown.table(["h"], [["a|b"], ["a\\|b"]])[2:] == ["| a\\|b |", "| a\\|b |"]
    assert markdown.block(["```", "x"]) == ["````", "```", "x", "````"]


def test_a_tab_stays_in_a_block_of_code_and_nothing_else_that_moves_the_cursor() -> None:
    hostile = "\tgo\u2028\x0b\x1b[2J\udca8\r"
    assert markdown.block([hostile])[1] == "\tgo\\u2028\\x0b\\x1b[2J\\udca8\\x0d"
    assert markdown.code("go\tto") == "`go to`"
