"""A session's synthesis as a server holds it: the document and its revisions."""

import json
from typing import Any

import jsonpatch

from fabric.core.synthesis.publish import COMPLETE, REVISION, RULES
from fabric.core.synthesis.state import SECTIONS
from fabric.store.keys import SYNTHESIZERS, Namespace, SessionKeys
from fabric.store.synthesis import is_published
from tests.support.keyspace import RESULTS, Row, client, is_settled, rows, values
from tests.support.servers import RunningServer

#: Key that holds the synthesizers' place in the results.
LEASE = Namespace().partition(0).lease(SYNTHESIZERS)


def document(server: RunningServer, keys: SessionKeys) -> dict[str, Any]:
    """Return the document that the hash holds; `{}` if there is none yet."""
    with client(server) as asking:
        stored: dict[bytes, bytes] = asking.hgetall(keys.synthesis)
    fields = {name.decode(): value for name, value in stored.items()}
    if not fields:
        return {}
    found: dict[str, Any] = {
        "session": keys.name,
        **{name: json.loads(fields.pop(name)) for name in (REVISION, COMPLETE)},
        **{section: {} for section in SECTIONS},
    }
    fields.pop(RULES, None)  # a note of the fabric's, in no patch
    for field, value in fields.items():
        if is_published(field, value):
            section, _, name = field.partition(":")
            found[section][name] = json.loads(value)
    return found


def check_revisions(server: RunningServer, keys: SessionKeys) -> list[Row]:
    """Return all revisions, after checking that none is missing and that they give the document."""
    revisions = rows(server, keys.revisions)
    assert [row.id for row in revisions] == [f"{n}-0" for n in range(1, len(revisions) + 1)]
    patched: Any = {}
    for row in revisions:
        patched = jsonpatch.apply_patch(patched, json.loads(row["patch"]), in_place=True)
    assert patched == document(server, keys)
    return revisions


def causes(revisions: list[Row]) -> list[str]:
    """Return the log ids that led to revisions, in order."""
    return [cause for row in revisions for cause in row["causes"].split()]


def is_folded(server: RunningServer) -> bool:
    """Return whether all signals have taken effect, with the orchestrator and in the syntheses.

    The synthesizer's own signals count too.
    """
    if not is_settled(server):
        return False
    newest = server.cli("XREVRANGE", RESULTS, "+", "-", "COUNT", 1)
    is_read = not newest or newest[0][0] == values(server, LEASE).get("committed")
    return is_read and is_settled(server)
