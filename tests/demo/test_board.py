"""The board: how each agent stands, from the session's log."""

from typing import Any

import msgspec

from fabric.demo.board import Board
from fabric.demo.finding import Severity
from fabric.demo.fleet import FLEET, REVIEWERS
from fabric.demo.harvest import Harvest
from fabric.demo.recommend import Draft, Recommendation


def entry(kind: str, word: str, who: str, **payload: Any) -> tuple[bytes, list[bytes]]:
    name = b"emitter" if kind == "signal" else b"to"
    flat = [b"kind", kind.encode(), b"type", word.encode(), name, who.encode(), b"ms", b"5"]
    return b"1-0", [*flat, b"payload", msgspec.json.encode(payload)]


def test_a_conflict_and_a_barrier_are_seen() -> None:
    board = Board()
    fixer = board.agents["FORMATTER"]
    board.take(entry("signal", "STARTED", "FORMATTER"))
    assert board.take(entry("signal", "INTENT", "FORMATTER", writes=["fixed/a.py"])) == []
    wait = {"resources": ["fixed/a.py"], "position": 1, "holder": "ANNOTATOR", "ahead": []}
    (row,) = board.take(entry("directive", "WAIT", "FORMATTER", **wait))
    assert row.signal == "(wait)"
    assert fixer.status == "waiting for fixed/a.py"
    board.take(entry("directive", "PROCEED", "FORMATTER", resources=["fixed/a.py"], token=2))
    assert fixer.status == "working"
    assert board.turns.of("fixed/a.py")[0].waited_for == ("ANNOTATOR",)

    board.take(entry("directive", "PAUSE", "*", reason="integration", barrier="fixes"))
    assert fixer.status == "working"
    board.take(entry("signal", "CHECKPOINT_REACHED", "FORMATTER", checkpoint="file 1 of 2"))
    assert fixer.status == "stopped for fixes"
    board.take(entry("directive", "RESUME", "*", reason="integrated", barrier="fixes"))
    assert fixer.status == "working"


def test_who_has_begun_and_ended_is_counted() -> None:
    board = Board()
    assert (board.begun, board.ended) == (0, 0)
    board.take(entry("signal", "STARTED", "STYLE"))
    board.take(entry("signal", "STARTED", "SAFETY"))
    board.take(entry("signal", "COMPLETED", "STYLE"))
    assert (board.begun, board.ended) == (2, 1)
    assert not board.is_over


def test_what_was_gathered_is_the_agents_own() -> None:
    board = Board()
    item = Recommendation("r", Severity.LOW, 1, 1, "Mend it.", ())
    board.gather(Harvest(drafts={"STYLE": Draft((item,))}, remarks=("INTEGRATOR: late",)))
    assert board.remarks == ("INTEGRATOR: late",)
    drafts = {agent.name: agent.draft.items for agent in board.summaries() if agent.draft.items}
    assert drafts == {"STYLE": (item,)}
    reviewers = [agent.name for agent in board.summaries() if agent.is_reviewer]
    assert reviewers == [member.name for member in REVIEWERS]
    assert len({member.name for member in FLEET}) == len(FLEET) == 9
