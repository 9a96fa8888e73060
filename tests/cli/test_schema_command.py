"""`fabric schema` prints the right JSON Schema."""

import pytest
from jsonschema import Draft202012Validator

from fabric.core.signal import SignalType
from fabric.wire.schema import document_schema, payload_schema
from tests.support.shell import Shell


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], document_schema()),
        (["BLOCKED"], document_schema(SignalType.BLOCKED)),
        (["BLOCKED", "--payload", "--json"], payload_schema(SignalType.BLOCKED)),
    ],
)
def test_it_is_printed(lone: Shell, words: list[str], expected: dict[str, object]) -> None:
    printed = lone.good("schema", *words).json
    assert printed == expected
    Draft202012Validator.check_schema(printed)


def test_an_unknown_type(lone: Shell) -> None:
    done = lone.run("schema", "BLOKED")
    assert (done.code, done.out) == (2, "")
    assert "BLOCKED" in done.err
    assert lone.run("schema", "--payload").code == 2
