"""What a server's keys hold: streams as rows, hashes as records, as redis-cli shows them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from fabric.store.keys import ORCHESTRATORS, Namespace, SessionKeys, partition_of
from fabric.testing import InProcessFabric
from fabric.wire.stored import fields_of, pairs_of
from tests.support.servers import RunningServer

#: Keys of the one partition of the default namespace.
SIGNALS = Namespace().partition(0).signals
DEAD = Namespace().partition(0).dead
RESULTS = Namespace().partition(0).results
LEASE = Namespace().partition(0).lease(ORCHESTRATORS)


@dataclass(frozen=True)
class Row:
    """One stream entry. Bytes that are not UTF-8 are escaped."""

    id: str
    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def payload(self) -> Any:
        return json.loads(self.fields.get("payload") or "{}")


def client(server: RunningServer) -> "redis.Redis":
    """Return a connection that does not decode bytes; the caller closes it."""
    return redis.Redis(unix_socket_path=str(server.socket), protocol=2, driver_info=None)


def rows(server: RunningServer | InProcessFabric, key: str, **wanted: str) -> list[Row]:
    """Return the entries of a stream whose fields have the wanted values."""
    if isinstance(server, InProcessFabric):
        stream = server.memory.data.peek(key, "stream")
        stored = stream.between(b"-", b"+") if stream is not None else []
        found: Any = [(entry_id, fields_of(flat)) for entry_id, flat in stored]
    else:
        with client(server) as asking:
            found = asking.execute_command("XRANGE", key, "-", "+")
    entries = [
        Row(_text(entry_id), {_text(name): _text(value) for name, value in fields.items()})
        for entry_id, fields in found
    ]
    return [row for row in entries if all(row[name] == value for name, value in wanted.items())]


def records(server: RunningServer | InProcessFabric, key: str) -> dict[str, Any]:
    """Return a hash of JSON documents."""
    if isinstance(server, InProcessFabric):
        stored = server.memory.data.peek(key, "hash") or {}
        return {name.decode(): json.loads(value) for name, value in stored.items()}
    flat = server.cli("HGETALL", key)
    return {name: json.loads(value) for name, value in pairs_of(flat)}


def values(server: RunningServer, key: str) -> dict[str, str]:
    """Return a hash of plain values."""
    flat = server.cli("HGETALL", key)
    return fields_of(flat)


def session(name: str, namespace: str = "fabric", partitions: int = 1) -> SessionKeys:
    """Return the keys of a session."""
    return Namespace(namespace).partition(partition_of(name, partitions)).session(name)


def add(
    server: RunningServer | InProcessFabric, key: str = SIGNALS, **fields: str | bytes | int
) -> str:
    """XADD an entry with these fields, unchecked; return its id."""
    flat = [part for pair in fields.items() for part in pair]
    if isinstance(server, InProcessFabric):
        data = server.memory.data
        entry = [one if isinstance(one, bytes) else str(one).encode() for one in flat]
        added = data.stream(key).append(b"*", entry, server.now_ms())
        data.wake()
        return added.decode()
    entry_id: str = server.cli("XADD", key, "*", *flat)
    return entry_id


def results(server: RunningServer, *numbers: int) -> None:
    """Send partial results of agent A in session s with these sequence numbers, in one pipeline."""
    with client(server) as asking, asking.pipeline(transaction=False) as pipeline:
        for seq in numbers:
            signal = {"session": "s", "type": "PARTIAL_RESULT", "emitter": "A", "incarnation": 1}
            pipeline.execute_command(
                *("XADD", SIGNALS, "*", "seq", seq, "payload", f'{{"partial": {{"n": {seq}}}}}'),
                *(part for pair in signal.items() for part in pair),
            )
        pipeline.execute()


def is_settled(server: RunningServer, key: str = SIGNALS) -> bool:
    """Return whether the ingress is empty: everything sent has taken effect."""
    return bool(server.cli("XLEN", key) == 0)


def server_ms(server: RunningServer) -> int:
    """Return the server's time in ms; leases expire by it."""
    seconds, microseconds = server.cli("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def story(server: RunningServer, keys: SessionKeys) -> list[str]:
    """Return the log in short lines: `1-0 STARTED A`, `3-1 NUDGE → A (of 3-0)`."""
    lines = []
    for row in rows(server, keys.log):
        if row["cause"]:
            to = row["to"] or "nobody"
            lines.append(f"{row.id} {row['type']} → {to} (of {row['cause']})")
        else:
            lines.append(f"{row.id} {row['type']} {row['emitter']}")
    return lines


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
