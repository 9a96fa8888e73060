"""Results written by hand to both workers, and what became of them."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.store.keys import SessionKeys
from tests.end_to_end.replayed import check_sessions
from tests.end_to_end.synthesized import check_revisions, document, is_folded
from tests.support.daemon import Daemon
from tests.support.fixtures import start_or_fail
from tests.support.keyspace import DEAD, RESULTS, SIGNALS, Row, client, rows, session
from tests.support.servers import RunningServer, flavours
from tests.support.waiting import until

Place = tuple[RunningServer, Daemon, Daemon]
Fields = dict[str, str | bytes]

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=flavours())
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Start a server and both workers that must survive everything a module does to them."""
    server = start_or_fail(request.param)
    workers = [Daemon(server.url, worker=name) for name in ("orchestrator", "synthesizer")]
    try:
        yield server, workers[0], workers[1]
        check_sessions(server, again=True)
    finally:
        are_alive = [one.is_alive for one in workers]
        said = workers[1].said()
        for one in workers:
            one.close()
        server.remove()
    assert are_alive == [True, True], "a worker has ended"
    assert "Traceback" not in said, said


@pytest.fixture
def demo() -> SessionKeys:
    """Give each test its own session."""
    return session(f"demo-{next(_numbers)}")


def put(place: Place, keys: SessionKeys, stream: str, **fields: str | bytes) -> bytes:
    """XADD a valid result with the given changes to a stream; return its id."""
    would_do: Fields = {"session": keys.name, "type": "PARTIAL_RESULT", "emitter": "A"}
    if stream == RESULTS:
        would_do |= {"incarnation": "1", "cause": f"{next(_numbers)}-0", "ms": "1000"}
    with client(place[0]) as asking:
        entry: Any = [part for pair in {**would_do, **fields}.items() for part in pair]
        entry_id: bytes = asking.execute_command("XADD", stream, "*", *entry)
    return entry_id


def settle(place: Place) -> None:
    server, *workers = place
    until(lambda: is_folded(server), lambda: "\n".join(one.said() for one in workers))


def letters_of(place: Place, keys: SessionKeys, entry_id: bytes) -> list[Row]:
    """Return the dead letters of an entry, once both workers have handled a good one after it."""
    server = place[0]
    put(place, keys, SIGNALS, emitter="GOOD", payload='{"partial": {"good": "yes"}}')
    settle(place)
    found = document(server, keys)
    assert found["document"]["/good"]["said"]["GOOD"][0]["value"] == "yes"
    check_revisions(server, keys)
    # The synthesizer may refuse what the orchestrator has accepted, under another id.
    return [
        letter
        for letter in rows(server, DEAD)
        if letter["id"] == entry_id.decode() or letter["raw.session"] == keys.name
    ]


def values(found: dict[str, Any], agent: str) -> dict[str, Any]:
    """Return what an agent says of each part: its own statement, or that of the whole."""
    return {
        f"{section}:{name}": part["said"][agent][0].get("value", part.get("value"))
        for section in ("findings", "document", "items")
        for name, part in found[section].items()
        if agent in part["said"]
    }
