"""Hostile partial results are folded or refused with a reason, and no worker stops.

The next result of another agent is folded.
"""

import json
from typing import Any

import pytest
from msgspec import json as exact

from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType
from fabric.errors import SignalError
from fabric.store.keys import SessionKeys
from tests.end_to_end.handover import Place, demo, letters_of, place, put, settle, values
from tests.end_to_end.synthesized import document
from tests.support.keyspace import RESULTS, SIGNALS

__all__ = ["demo", "place"]

pytestmark = pytest.mark.server


def partial(value: str) -> bytes:
    """Return a payload with a partial result, as JSON."""
    return b'{"partial":%s}' % value.encode()


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def finding(**fields: Any) -> str:
    return json.dumps({"findings": [fields]})


#: Partial result → code and words of the reason.
REFUSED: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "5 MB": (partial('{"a":"%s"}' % ("x" * 5_000_000)), "LIMIT", ("5000020", "1048576 bytes")),
    "1,000 deep": (partial(deep(999)), "LIMIT", ("payload", "1000", "64 levels")),
    "1,000 lists deep": (partial("[" * 999 + "]" * 999), "LIMIT", ("1000", "64 levels")),
    "open": (partial("{" * 40), "JSON", ("payload",)),
    "half a character": (b'{"partial":{"a":"\xc3"}}', "VALUE", ("UTF-8",)),
    "half a pair": (partial('{"a":"\\ud800"}'), "JSON", ("payload",)),
    "not a number": (partial('{"a":NaN}'), "JSON", ("payload",)),
    "no finding": (partial('{"findings":[1]}'), "VALUE", ("partial", "findings")),
    "findings as a text": (partial('{"findings":"none"}'), "VALUE", ("findings",)),
    "no key": (partial(finding(value=1)), "VALUE", ("key",)),
    "a number for a key": (partial(finding(key=5, value=1)), "VALUE", ("key",)),
    "an empty key": (partial(finding(key="", value=1)), "VALUE", ("key",)),
    "a null in a key": (partial(finding(key="a\0b", value=1)), "VALUE", ("key",)),
    "a long key": (partial(finding(key="k" * 513, value=1)), "VALUE", ("key",)),
    "no value": (partial(finding(key="k")), "VALUE", ("value",)),
    "surer than sure": (partial(finding(key="k", value=1, confidence=2)), "VALUE", ("confidence",)),
    "itself a list": (
        partial(finding(key="k", value=1, supersedes=["a"] * 1_001)),
        "VALUE",
        ("supersedes",),
    ),
    "2,001 values": (
        partial(json.dumps({str(n): n for n in range(2_001)})),
        "LIMIT",
        ("2000", "values", "several"),
    ),
    "2,001 items": (
        partial(json.dumps({"a": {"$append": list(range(2_001))}})),
        "LIMIT",
        ("2000", "values"),
    ),
    "2,001 findings": (
        partial(json.dumps({"findings": [{"key": str(n), "value": 1} for n in range(2_001)]})),
        "LIMIT",
        ("2000", "values"),
    ),
}


@pytest.mark.parametrize("stream", [SIGNALS, RESULTS])
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_result_is_refused_with_a_reason(
    place: Place, demo: SessionKeys, name: str, stream: str
) -> None:
    payload, code, words = REFUSED[name]
    (letter,) = letters_of(place, demo, put(place, demo, stream, payload=payload))
    # Only an agent's error tells a missing field from a wrong one.
    assert letter["code"] in (code, "VALUE" if stream == RESULTS else code), letter["reason"]
    for word in words:
        assert word in letter["reason"]
    assert len(letter["reason"]) < 1_000
    assert letter["reason"].isprintable()
    assert letter["source"] == (RESULTS if "values" in words else stream)
    assert letter["raw.payload"] == payload.decode("utf-8", "backslashreplace")
    assert values(document(place[0], demo), "A") == {}


#: Unusual document that is folded → its parts and their values.
FOLDED: dict[str, tuple[str, dict[str, Any]]] = {
    "a slash": ('{"a/b": "x"}', {"document:/a~1b": "x"}),
    "a tilde": ('{"a~b": "x", "~1": "y"}', {"document:/a~0b": "x", "document:/~01": "y"}),
    "a null": ('{"a\\u0000b": "x"}', {"document:/a\0b": "x"}),
    "nothing": ('{"": "x", "a": {"": "y"}}', {"document:/": "x", "document:/a/": "y"}),
    "a mark": ('{"a=b": ["x"]}', {"document:/a=b": ["x"]}),
    "colons": ('{"findings:a": "x", ":": "y"}', {"document:/findings:a": "x", "document:/:": "y"}),
    "a minus": ('{"-": {"-": "x"}}', {"document:/-/-": "x"}),
    "digits": ('{"0": {"1": "x"}}', {"document:/0/1": "x"}),
    "names of the fabric": (
        '{"revision": 7, "complete": {"final": true}, "agents": {"A": "x"}}',
        {"document:/revision": 7, "document:/complete/final": True, "document:/agents/A": "x"},
    ),
    "a slash in an item": ('{"a": ["b/c~d"]}', {"document:/a": ["b/c~d"]}),
    "a line break": ('{"a\\nb": "\\u0000"}', {"document:/a\nb": "\0"}),
    "other scripts": (
        '{"ключ": "値", "\\ud83d\\ude00": 1}',
        {"document:/ключ": "値", "document:/\U0001f600": 1},
    ),
    "emptiness": (
        '{"a": {}, "b": [], "c": ""}',
        {"document:/a": {}, "document:/b": [], "document:/c": ""},
    ),
    "large numbers": (
        '{"a": 100000000000000000000000000000, "b": -9007199254740993}',
        {"document:/a": 10**29, "document:/b": -9007199254740993},
    ),
    "62 deep": (deep(62), {"document:" + "/a" * 62: 1}),
    "the same twice": ('{"a": "x", "a": "y"}', {"document:/a": "y"}),
    "a finding with a slash": (finding(key="a/b~c", value="x"), {"findings:a/b~c": "x"}),
    "a finding with colons": (finding(key="findings:a", value=1), {"findings:findings:a": 1}),
    "a finding of nothing": (finding(key="k", value=None), {"findings:k": None}),
    "a finding that supersedes itself": (
        finding(key="k", value=1, supersedes=["k"]),
        {"findings:k": 1},
    ),
    "a deep finding": (
        finding(key="k", value=nested(59)),
        {"findings:k": nested(59)},
    ),
    "2,000 values": (
        json.dumps({f"{n}": "x" for n in range(2_000)}),
        {f"document:/{n}": "x" for n in range(2_000)},
    ),
    "1 MB": ('{"a":"%s"}' % ("x" * 1_048_556), {"document:/a": "x" * 1_048_556}),
}


@pytest.mark.parametrize("stream", [SIGNALS, pytest.param(RESULTS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FOLDED)
def test_an_unusual_result_is_folded_under_its_key(
    place: Place, demo: SessionKeys, name: str, stream: str
) -> None:
    given, parts = FOLDED[name]
    assert letters_of(place, demo, put(place, demo, stream, payload=partial(given))) == []
    assert values(document(place[0], demo), "A") == parts


@pytest.mark.parametrize("given", ['"a text"', "[1, 2]", "7", "true"])
def test_a_result_that_is_not_an_object(place: Place, demo: SessionKeys, given: str) -> None:
    """The ingress refuses it; in the results stream it is folded as a full result is."""
    (letter,) = letters_of(place, demo, put(place, demo, SIGNALS, payload=partial(given)))
    assert (letter["code"], letter["source"]) == ("VALUE", SIGNALS)
    assert "partial" in letter["reason"]
    assert values(document(place[0], demo), "A") == {}

    put(place, demo, RESULTS, payload=partial(given), emitter="B")
    settle(place)
    found = values(document(place[0], demo), "B")
    assert found == {"document:/result": json.loads(given)}


async def test_the_library_refuses_before_anything_is_sent(place: Place, demo: SessionKeys) -> None:
    """Accepted results are folded with their keys unchanged; refused ones leave no trace."""
    async with (
        Fabric.connect(place[0].url) as fabric,
        fabric.agent("A", session=demo.name) as agent,
    ):
        for given in (
            {"a": "x" * 5_000_000},
            nested(999),
            {"findings": [{"key": "a\0b", "value": 1}]},
        ):
            with pytest.raises(SignalError):
                await agent.partial_result(given)
        with pytest.raises(SignalError):
            await agent.emit(SignalType.PARTIAL_RESULT, {"partial": "a text"})
        await agent.partial_result({"a/b": {"~": "x", "\0": "y"}})
        await agent.partial_result({"findings": [{"key": "a/b~", "value": None}]})
    assert letters_of(place, demo, b"0-0") == []
    assert values(document(place[0], demo), "A") == {
        "document:/a~1b/~0": "x",
        "document:/a~1b/\0": "y",
        "findings:a/b~": None,
    }


def test_a_dead_letter_holds_what_was_refused(place: Place, demo: SessionKeys) -> None:
    """So it can be corrected and sent again."""
    payload = exact.encode({"partial": {"findings": [{"key": 5, "value": "x"}]}})
    (letter,) = letters_of(place, demo, put(place, demo, RESULTS, payload=payload))
    mended = letter["raw.payload"].replace("5", '"five"')
    assert letters_of(place, demo, put(place, demo, RESULTS, payload=mended)) == [letter]
    assert values(document(place[0], demo), "A") == {"findings:five": "x"}
