"""Random results of a few agents, folded without a server and written into an in-memory store."""

import random
from typing import Any

import msgspec

from fabric.client.session import Session
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.store.keys import Namespace, SessionKeys
from fabric.store.keyspace import Keyspace
from fabric.store.port import ClientStore
from fabric.testing.store import MemoryStore
from tests.support.folding import Folding, entry

KEYS: SessionKeys = Namespace().partition(0).session("demo")

AGENTS = ("A", "B", "C/~", "Ü")
FOUND = ("port", "a/b", "x~y", "é")

#: The hash after each batch; the empty one first.
States = list[dict[str, bytes]]


def worked(seed: int, batches: int = 12) -> tuple[Folding, States]:
    """Fold random results of some agents; return the synthesis, and its hash after each batch.

    One batch can make several revisions (sweeps): the hash is that after the last of them.
    """
    chance = random.Random(seed)
    folding = Folding()
    states: States = [{}]
    log, lives = 0, dict.fromkeys(AGENTS, 1)
    for _ in range(batches):
        entries = []
        for _ in range(chance.randint(1, 4)):
            log += 1
            agent = chance.choice(AGENTS)
            kind = chance.choice(["STARTED"] + ["PARTIAL_RESULT"] * 6 + ["COMPLETED"])
            if kind == "STARTED":
                lives[agent] += 1
            partial = _partial(chance) if kind == "PARTIAL_RESULT" else None
            entries.append(entry(agent, log, partial, kind=kind, incarnation=lives[agent]))
        folding.take(entries)
        states.append(dict(folding.hash))
    return folding, states


def put(server: Keyspace, folding: Folding, state: dict[str, bytes], upto: int) -> None:
    """Write a state of the hash, and the revisions up to a number, into an in-memory server."""
    stored = server.hash(KEYS.synthesis)
    stored.clear()
    stored.update({name.encode(): value for name, value in state.items()})
    stream = server.stream(KEYS.revisions)
    for number in range(len(stream) + 1, upto + 1):
        stream.append(b"%d-0" % number, fields(folding, number), 0)


def fields(folding: Folding, number: int) -> list[bytes]:
    """Return the fields of a revision's entry."""
    causes = " ".join(f"{cause}-0" for cause in folding.causes[number - 1])
    patch = folding.revisions[number - 1]
    is_final = _is_final(patch)
    return [
        b"patch", patch, b"causes", causes.encode(), b"ms", b"%d" % number,
        b"final", b"%d" % is_final,
    ]  # fmt: skip


def session(store: ClientStore) -> Session:
    return Session(store, KEYS)


def store_of(server: Keyspace) -> MemoryStore:
    return MemoryStore(lambda: 0, data=server)


def _is_final(patch: bytes) -> bool:
    (complete,) = [
        one["value"] if one["path"] else one["value"][COMPLETE]
        for one in msgspec.json.decode(patch)
        if one["path"] in ("", f"/{COMPLETE}")
    ]
    return bool(complete["final"])


def revision_of(state: dict[str, bytes]) -> int:
    return int(state.get(REVISION, 0))


def _partial(chance: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if chance.random() < 0.7:
        finding: dict[str, Any] = {"key": chance.choice(FOUND)}
        if chance.random() < 0.2:
            finding["withdrawn"] = True
        else:
            finding["value"] = chance.choice([1, 2, "two", {"a": [1]}])
            if chance.random() < 0.2:
                finding["supersedes"] = chance.choice(("port", "a/b"))
        found["findings"] = [finding]
    for name in chance.sample(["n", "text", "list", "map", "a=b", ""], 2):
        found[name] = chance.choice([1, 2.5, "t", None, {}, [], ["x", "y"], ["y", {"z": 1}],
                                     {"k": 1, "l": ["x"]}, {"k": {"d/e": "t"}}])  # fmt: skip
    return found
