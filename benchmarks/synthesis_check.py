"""Check that a synthesis holds every reported result exactly once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks import results_workload
from benchmarks.connection import BenchmarkError, Connection
from benchmarks.results_workload import KEYS_OF_SESSION
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import SECTIONS
from fabric.store.synthesis import is_published
from fabric.wire.stored import fields_of, pairs_of

#: Entries and fields that are read at a time.
PAGE = 1_000


def check(connection: Connection, name: str, count: int) -> int:
    """Return the number of revisions. Raises BenchmarkError when a result is lost or doubled."""
    document = _document(connection)
    causes: Counter[bytes] = Counter()
    patched: Any = {}
    number = 0
    for number, (entry_id, fields) in enumerate(_revisions(connection), 1):
        _must(entry_id == b"%d-0" % number, f"revision {number} is {entry_id!r}")
        entry = fields_of(fields)
        causes.update(entry[b"causes"].split())
        _apply(patched, json.loads(entry[b"patch"]))
    _must(patched == document, "the patches do not make the document")
    twice = [cause for cause, times in causes.items() if times > 1]
    _must(not twice, f"folded twice: {twice[:5]}")
    _must(len(causes) == count, f"{len(causes)} of {count} results are causes of a revision")
    expected, counters = _expected(name, count)
    for key, (agent, value) in expected.items():
        said = document["findings"].get(key, {}).get("said", {}).get(agent)
        _must(said is not None, f"the finding {key} of {agent} is lost")
        found = said[0].get("value", document["findings"][key].get("value"))
        _must(found == value, f"{agent} has said {value!r} of {key}, not {found!r}")
    _must(len(document["findings"]) == len(expected), "there are findings that nobody has made")
    for one, total in counters.items():
        found = document["document"].get(f"/{one}", {}).get("value")
        _must(found == total, f"/{one} is {found}, not {total}")
    return number


def _expected(name: str, count: int) -> tuple[dict[str, tuple[str, Any]], dict[str, int]]:
    """Return all findings, key → (agent, value), and the sums of the counters."""
    findings: dict[str, tuple[str, Any]] = {}
    last: dict[tuple[str, str], int] = {}
    for position in range(count):
        agent = results_workload.agent(position % results_workload.AGENTS)
        for member, value in results_workload.partial(name, position).items():
            if member == "findings":
                findings.update({one["key"]: (agent, one["value"]) for one in value})
            elif member in results_workload.COUNTERS:
                last[member, agent] = value["$total"]
    sums: dict[str, int] = {}
    for (member, _), value in last.items():
        sums[member] = sums.get(member, 0) + value
    return findings, sums


def _document(connection: Connection) -> Any:
    found: dict[str, Any] = {
        "session": results_workload.SESSION,
        **{section: {} for section in SECTIONS},
    }
    cursor = b"0"
    while True:
        cursor, flat = connection.call("HSCAN", KEYS_OF_SESSION.synthesis, cursor, "COUNT", PAGE)
        for field, value in pairs_of(flat):
            name = field.decode()
            section, _, member = name.partition(":")
            if name in (REVISION, COMPLETE):
                found[name] = json.loads(value)
            elif is_published(name, value):
                found[section][member] = json.loads(value)
        if cursor == b"0":
            return found


def _revisions(connection: Connection) -> Iterator[tuple[bytes, list[bytes]]]:
    after = b"-"
    while page := connection.call("XRANGE", KEYS_OF_SESSION.revisions, after, "+", "COUNT", PAGE):
        yield from page
        after = b"(" + page[-1][0]


def _apply(document: Any, patch: list[dict[str, Any]]) -> None:
    """Apply a JSON Patch with the two operations of revisions, on paths of two levels at most."""
    for operation in patch:
        _, *tokens = operation["path"].split("/")
        names = [token.replace("~1", "/").replace("~0", "~") for token in tokens]
        if not names:
            document.update(operation["value"])
            continue
        within = document if len(names) == 1 else document[names[0]]
        if operation["op"] == "remove":
            del within[names[-1]]
        else:
            within[names[-1]] = operation["value"]


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BenchmarkError(f"the synthesis is wrong: {otherwise}")
