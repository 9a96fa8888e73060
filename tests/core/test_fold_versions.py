"""A session of the version before is read, shown and continued by the rules that it began with."""

from __future__ import annotations

import json
from pathlib import Path

from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding

STORED = Path(__file__).parent / "stored"


def older() -> Folding:
    """Return a session as the version before wrote it: without comparisons and policies."""
    kept = json.loads((STORED / "exact.json").read_text())
    folding = Folding()
    folding.hash = {name: value.encode() for name, value in kept["hash"].items()}
    folding.said = {agent: set(names) for agent, names in kept["said"].items()}
    folding.revisions = [patch.encode() for patch in kept["revisions"]]
    folding.log = kept["log"]
    return folding


def states(folding: Folding) -> dict[str, str]:
    return {key: one["state"] for key, one in folding.document()["findings"].items()}


def test_it_is_shown() -> None:
    folding = older()
    assert folding.patched() == folding.document()
    assert states(folding) == {
        "a.py:4:r": "agreed",
        "os": "decided",
        "p": "agreed",
        "port": "contradicted",
    }
    text = "\n".join(report(Synthesis(folding.document()), "demo"))
    assert "`findings:port`" in text
    assert "decided for" in text


def test_it_goes_on_by_its_own_rules() -> None:
    folding = older()
    folding.find("C", "port", 8080)
    folding.find("C", "os", "bsd")
    folding.find("D", "p", 5)
    found = states(folding)
    assert (found["port"], found["os"], found["p"]) == ("contradicted", "contradicted", "agreed")
    folding.find("B", "port", 8080)
    assert states(folding)["port"] == "agreed"
    folding.say("B", {"n": 4})
    assert folding.part("document:/n")["state"] == "contradicted"
    assert folding.patched() == folding.document()
