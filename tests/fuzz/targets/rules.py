"""The rule file: rules, or faults by line; rules that are written out read as the same rules."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fabric.config.rulebook import Found, check
from fabric.config.show import explained
from fabric.core.declaration import fields
from fabric.core.rules import Rules
from fabric.wire import record
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()

_EXAMPLE = Path(__file__).parents[3] / "fabric.example.toml"
WORDS = [
    *(
        line.split("=")[0].strip("# ").encode()
        for line in _EXAMPLE.read_text().splitlines()
        if "=" in line
    ),
    *(
        line.strip("# ").encode()
        for line in _EXAMPLE.read_text().splitlines()
        if line.strip("# ").startswith("[")
    ),
    *(b" = ", b'"""', b"'''", b"\n", b"#", b"[[", b"]]", b"1979-05-27T07:32:00Z", b"inf", b"0b1"),
    *HOSTILE,
]
WORDS = [word for word in WORDS if 0 < len(word) <= 64]

#: The rules on which no decision depends, with their defaults.
_NOT_SENT = {
    field.name: getattr(Rules(), field.name)
    for field in fields(Rules)
    if field.name == "hook" or field.key.startswith("retention.")
}


def seeds() -> list[bytes]:
    """Return the example file, and each of its tables without comment marks."""
    text = _EXAMPLE.read_text()
    live = "\n".join(line.removeprefix("# ") if "=" in line else line for line in text.splitlines())
    tables = [f"[{table}" for table in live.split("\n[")[1:]]
    return [text.encode(), *(table.encode() for table in tables)]


def run(data: bytes) -> None:
    """Check a file's text."""
    text = data.decode("utf-8", "replace")
    rules, faults = check(text)
    assert (rules is None) == bool(faults), "faults, or rules"
    for fault in faults:
        assert 1 <= fault.line <= text.count("\n") + 1, "a line that is not there"
        assert len(str(fault)) < 10_000, "a fault that nobody reads"
    if rules is None:
        return
    again, faults = check("\n".join(explained(Found(rules))))
    assert not faults, faults
    assert again == rules, "written out, they are others"
    kept = msgspec.structs.replace(rules, **_NOT_SENT)
    assert record.read_rules(record.rules_document(rules)) == kept, "sent, they are others"
