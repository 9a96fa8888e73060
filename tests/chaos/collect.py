"""Dumps what the servers hold at the end to files: the evidence for the checks.

server/sessions/<session>/log.jsonl   and revisions, broadcast, inbox/<agent>: streams, [id, fields]
server/sessions/<session>/hashes.json  agents, claims, barriers, escalations, synthesis …
server/partitions.json                 remaining entries of ingress and results, and leases
server/dead/<partition>.jsonl          dead letters
server/replay.json                     session → differences between log and keys
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from fabric.errors import FabricError
from fabric.ops.comparison import Comparison
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, SessionKeys
from fabric.store.redis import RedisStore
from fabric.wire.stored import fields_of
from tests.chaos.deployment import Deployment
from tests.chaos.journal import write_json
from tests.chaos.roster import PARTITIONS

#: Entries that are read at a time.
PAGE = 2_000

NAMESPACE = Namespace()


def in_path(name: str) -> str:
    """Quote a name for use in a path: it may contain anything."""
    return quote(name, safe="")


def is_empty(deployment: Deployment) -> bool:
    """Return whether everything sent has taken effect, in the syntheses too."""
    for number in range(PARTITIONS):
        names = NAMESPACE.partition(number)
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            if deployment.ask(names.source(group), "XLEN", names.source(group)):
                return False
    return True


def collect(deployment: Deployment, directory: Path) -> None:
    """Write all evidence into a directory."""
    folder = directory / "server"
    partitions: dict[str, Any] = {}
    differences: dict[str, list[str]] = {}
    for number in range(PARTITIONS):
        names = NAMESPACE.partition(number)
        partitions[str(number)] = _partition(deployment, number)
        _stream(deployment, names.dead, folder / "dead" / f"{number}.jsonl")
        for session in deployment.ask(names.sessions, "ZRANGE", names.sessions, 0, -1):
            keys = names.session(session)
            _session(deployment, keys, folder / "sessions" / in_path(session))
            differences[session] = asyncio.run(_replay(deployment.url, keys))
    write_json(folder / "partitions.json", partitions)
    write_json(folder / "replay.json", differences)


def _partition(deployment: Deployment, number: int) -> Any:
    names = NAMESPACE.partition(number)
    found: dict[str, Any] = {}
    for group in (ORCHESTRATORS, SYNTHESIZERS):
        source, lease = names.source(group), names.lease(group)
        found[group] = {
            "left": deployment.ask(source, "XLEN", source),
            "lease": _pairs(deployment.ask(lease, "HGETALL", lease)),
        }
    return found


def _session(deployment: Deployment, keys: SessionKeys, folder: Path) -> None:
    """Write down a session as it was at one moment: workers may still declare agents dead."""
    before = None
    while before != (before := _last_ids(deployment, keys)):
        _copy(deployment, keys, folder)


def _last_ids(deployment: Deployment, keys: SessionKeys) -> list[str]:
    """Return the last id of the log and of the revisions: each commit moves one of them."""
    pages = [
        deployment.ask(key, "XREVRANGE", key, "+", "-", "COUNT", 1)
        for key in (keys.log, keys.revisions)
    ]
    return [entry_id for page in pages for entry_id, _ in page]


def _copy(deployment: Deployment, keys: SessionKeys, folder: Path) -> None:
    _stream(deployment, keys.log, folder / "log.jsonl")
    _stream(deployment, keys.broadcast, folder / "broadcast.jsonl")
    _stream(deployment, keys.revisions, folder / "revisions.jsonl")
    hashes = {
        "agents": keys.agents,
        "claims": keys.claims,
        "barriers": keys.barriers,
        "escalations": keys.escalations,
        "dependencies": keys.dependencies,
        "synthesis": keys.synthesis,
    }
    found = {name: _pairs(deployment.ask(key, "HGETALL", key)) for name, key in hashes.items()}
    write_json(folder / "hashes.json", found)
    for agent in found["agents"]:
        _stream(deployment, keys.inbox(agent), folder / "inbox" / f"{in_path(agent)}.jsonl")


def _stream(deployment: Deployment, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for entry_id, flat in _entries(deployment, key):
            file.write(encode([entry_id, _pairs(flat)]) + b"\n")


def _entries(deployment: Deployment, key: str) -> Iterator[tuple[str, list[str]]]:
    after = "-"
    while page := deployment.ask(key, "XRANGE", key, after, "+", "COUNT", PAGE):
        yield from page
        after = f"({page[-1][0]}"


def _pairs(flat: list[str]) -> dict[str, str]:
    return fields_of(flat)


async def _replay(url: str, keys: SessionKeys) -> list[str]:
    store = RedisStore(url)
    try:
        report = await Comparison(store, keys).run()
        return [str(one) for one in report.differences]
    except FabricError as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        await store.close()
