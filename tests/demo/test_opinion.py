"""Where to begin: what a reviewer says, and to whom it gives way."""

import pytest

from fabric.demo.finding import Finding, Severity
from fabric.demo.opinion import Opinion, from_partial, opinion, to_partial, yields


def finding(path: str, severity: Severity, measure: int = 0) -> Finding:
    return Finding(f"{path}:1:r", path, 1, "r", "m", severity, "x", "a", measure=measure)


def test_the_worst_file_is_named_whatever_the_order() -> None:
    found = [
        finding("many.py", Severity.LOW),
        finding("many.py", Severity.LOW),
        finding("one.py", Severity.MEDIUM, 20),
        finding("two.py", Severity.MEDIUM, 30),
    ]
    said = Opinion("two.py", Severity.MEDIUM, 1)
    assert opinion(found) == opinion(reversed(found)) == said
    assert opinion([*found, finding("one.py", Severity.MEDIUM)]) == Opinion(
        "one.py", Severity.MEDIUM, 2
    )
    assert opinion([]) is None


def test_who_has_found_less_gives_way_and_equals_do_not() -> None:
    mine = Opinion("a.py", Severity.MEDIUM, 9)
    assert yields(mine, [mine, Opinion("b.py", Severity.HIGH, 1)])
    assert not yields(mine, [mine, Opinion("b.py", Severity.MEDIUM, 99)])
    assert not yields(mine, [])


def test_an_opinion_is_read_as_it_was_said() -> None:
    mine = Opinion("a.py", Severity.HIGH, 2)
    item = to_partial(mine)
    assert from_partial(item["value"], item["evidence"]) == mine
    with pytest.raises(ValueError, match="evidence"):
        from_partial("a.py", None)
    with pytest.raises(ValueError, match="severity"):
        from_partial("a.py", {"severity": "odd", "count": 1})
