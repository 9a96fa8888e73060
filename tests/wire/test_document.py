"""JSON Patches of revisions: an independent library makes the documents that we expect of them."""

from __future__ import annotations

from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.synthesis.publish import Operation
from fabric.core.synthesis.state import SECTIONS
from fabric.wire.document import patch
from tests.support.effort import examples

names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("~/01-\0"), max_size=6)


def applied(document: Any, made: bytes) -> Any:
    return jsonpatch.apply_patch(document, msgspec.json.decode(made))


def test_the_first_revision_makes_the_whole_document_of_nothing() -> None:
    made = patch("demo", 1, b'{"agents":1}', [Operation("agents", "A", b'{"status":"active"}')])
    assert applied({}, made) == {
        "session": "demo",
        "revision": 1,
        "complete": {"agents": 1},
        **{section: {} for section in SECTIONS},
        "agents": {"A": {"status": "active"}},
    }


def test_a_later_one_names_what_has_changed() -> None:
    made = patch("demo", 7, b"{}", [Operation("document", "/a~1b/c", b"5")])
    assert msgspec.json.decode(made) == [
        {"op": "add", "path": "/revision", "value": 7},
        {"op": "add", "path": "/complete", "value": {}},
        {"op": "add", "path": "/document/~1a~01b~1c", "value": 5},
    ]


def test_each_operation_has_a_line_of_its_own() -> None:
    operations = [Operation("document", f"/{number}", b"1") for number in range(5)]
    assert len(patch("demo", 2, b"{}", operations).splitlines()) == 7


@pytest.mark.parametrize("session", ['"', "\\", "é", "a/b~c", " "])
def test_a_session_may_have_any_name(session: str) -> None:
    assert applied({}, patch(session, 1, b"{}", []))["session"] == session


@examples(150)
@given(st.lists(st.tuples(st.sampled_from(SECTIONS), names, st.none() | st.integers()), max_size=8))
def test_members_of_any_name_come_and_go(changes: list[tuple[str, str, int | None]]) -> None:
    document = applied({}, patch("demo", 1, b"{}", []))
    expected: dict[str, dict[str, int]] = {section: {} for section in SECTIONS}
    for number, (section, name, value) in enumerate(changes, 2):
        if value is None and name not in expected[section]:
            continue
        record = None if value is None else msgspec.json.encode(value)
        document = applied(
            document, patch("demo", number, b"{}", [Operation(section, name, record)])
        )
        if value is None:
            del expected[section][name]
        else:
            expected[section][name] = value
        assert {section: document[section] for section in SECTIONS} == expected
