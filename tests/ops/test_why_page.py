"""The examples in docs/why.md are what is printed."""

from pathlib import Path

from tests.ops.logged_session import LoggedSession

PAGE = Path(__file__).parents[2] / "docs" / "why.md"


def chain() -> LoggedSession:
    """B wants what A has, A waits for what P makes."""
    told = LoggedSession()
    told.say("P", "STARTED", {"produces": ["schema"]})
    told.say("A", "STARTED")
    told.say("B", "STARTED")
    told.at(20)
    told.say("A", "INTENT", {"writes": ["config.py"]})
    told.at(22)
    told.say("P", "PROGRESS", {"percent": 60})
    told.at(25)
    told.say("B", "INTENT", {"writes": ["config.py"]})
    told.at(26)
    told.say("A", "BLOCKED", {"on": "schema"})
    told.at(40)
    told.cursors |= {"A": b"6-4 0-0", "P": b"0-0 0-0"}
    return told


def barrier() -> LoggedSession:
    """L has called a barrier; C has died without a word."""
    told = LoggedSession()
    for name in ("LEAD", "A", "B", "C"):
        told.say(name, "STARTED")
    told.at(60)
    told.say("LEAD", "INTEGRATION_REQUIRED", {"name": "release", "deadline_ms": 30_000})
    told.at(70)
    for name in ("A", "B"):
        told.say(name, "CHECKPOINT_REACHED", {"checkpoint": "tests_validated"})
    told.at(95)
    return told


def test_the_examples_are_true() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for told, agent in ((chain(), "B"), (barrier(), "A")):
        printed = told.why(agent)
        assert printed in page, printed
