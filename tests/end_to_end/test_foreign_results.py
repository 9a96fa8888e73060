"""Foreign entries in the results stream get a reason, and the synthesizer goes on."""

import json

import pytest

from fabric.store.keys import SessionKeys
from tests.end_to_end.handover import Fields, Place, demo, letters_of, place, put
from tests.end_to_end.synthesized import document
from tests.support.keyspace import RESULTS, SIGNALS, client

__all__ = ["demo", "place"]

pytestmark = pytest.mark.server

#: Fields of a foreign entry of the results → code and words of the reason.
FOREIGN: dict[str, tuple[Fields, str, tuple[str, ...]]] = {
    "no session": ({"session": ""}, "MISSING", ("session",)),
    "a session with a colon": ({"session": "a:b"}, "NAME", ("session",)),
    "no text": ({"session": b"\xff"}, "NAME", ("session",)),
    "an unknown type": ({"type": "PARTIAL"}, "TYPE", ("PARTIAL",)),
    "no type": ({"type": ""}, "MISSING", ("type",)),
    "no emitter": ({"emitter": ""}, "MISSING", ("emitter",)),
    "control characters": ({"emitter": "A\x1b[2J"}, "NAME", ("emitter", "printable")),
    "no number": ({"cause": "once"}, "NUMBER", ("cause", "once")),
    "no cause": ({"cause": ""}, "NUMBER", ("cause",)),
    "no time": ({"ms": "-1"}, "NUMBER", ("ms",)),
    "an incarnation beyond": ({"incarnation": "9" * 30}, "NUMBER", ("incarnation",)),
    "percent in words": ({"percent": "half"}, "VALUE", ("percent", "half")),
    "percent beyond": ({"percent": "1e308"}, "VALUE", ("percent",)),
    "percent below": ({"percent": "-5"}, "VALUE", ("percent",)),
    "a list for an object": ({"payload": "[1]"}, "VALUE", ("payload",)),
    "a decision of nothing": ({"type": "DECIDED", "payload": "{}"}, "VALUE", ("part",)),
    "a decision about the fabric's own": (
        {"type": "DECIDED", "payload": '{"part":"revision","decision":"A","by":"B","chosen":"0",'
         '"rejected":[]}'},
        "VALUE",
        ("part",),
    ),
    "a refinement by nobody": (
        {"type": "REFINED", "payload": '{"refiner":"","value":1}'}, "VALUE", ("refiner",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_result_gets_a_reason(place: Place, demo: SessionKeys, name: str) -> None:
    fields, code, words = FOREIGN[name]
    (letter,) = letters_of(place, demo, put(place, demo, RESULTS, **fields))
    assert letter["code"] == code, letter["reason"]
    for word in words:
        assert word in letter["reason"]
    assert letter["reason"].isprintable()
    assert letter["source"] == RESULTS


@pytest.mark.parametrize("part", ["revision", "complete", "agents:A", "sweep:A", "port", "a:b"])
def test_a_made_up_contradiction(place: Place, demo: SessionKeys, part: str) -> None:
    """Its decision changes nothing: no part of any synthesis has this name."""
    conflict = {
        "resources": ["x"], "agents": ["A", "B"], "kind": "finding", "part": part,
        "values": [{"agents": ["A"], "digest": "1"}, {"agents": ["B"], "digest": "2"}],
    }  # fmt: skip
    put(place, demo, SIGNALS, type="CONFLICT_DETECTED", payload=json.dumps(conflict))
    decided = {"escalation": part, "decision": "A"}
    entry_id = put(place, demo, SIGNALS, type="DECIDED", emitter="Ann", payload=json.dumps(decided))
    letters = letters_of(place, demo, entry_id)
    assert [letter["code"] for letter in letters] != ["DEFECT"]
    assert set(document(place[0], demo)["document"]) == {"/good"}


def test_noise_in_the_results(place: Place, demo: SessionKeys) -> None:
    with client(place[0]) as asking:
        for noise in (
            (b"\xff", b"\x00"),
            (b"session", demo.name.encode(), b"type", b"PARTIAL_RESULT"),
            tuple(b"%d" % number for number in range(10_000)),
        ):
            entry_id: bytes = asking.execute_command("XADD", RESULTS, "*", *noise)
            *_, letter = letters_of(place, demo, entry_id)
            assert letter["id"] == entry_id.decode()
            assert letter["code"] in ("MISSING", "NUMBER")
