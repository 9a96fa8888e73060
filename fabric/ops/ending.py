"""Waiting until agents have ended, for who started them: one of them, or a whole session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from fabric.backoff import retry
from fabric.client.session import BLOCK_MS, PAGE, Session
from fabric.core.decision import Kind
from fabric.core.record import ENDED, Agent
from fabric.core.signal import SignalType
from fabric.errors import WaitTimeoutError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.wire import foreign

#: Signals by which an agent's end can have come nearer.
_ENDINGS = frozenset({SignalType.COMPLETED.value.encode(), SignalType.FAILED.value.encode()})


async def until_ended(
    store: ClientStore,
    keys: SessionKeys,
    name: str | None = None,
    *,
    timeout_s: float | None = None,
    note: Callable[[str], None],
) -> dict[str, Agent]:
    """Wait until an agent has completed or failed, or every agent of the session; return them.

    An agent, or a session, that nobody has heard of yet may still come: `note` is told. Raises
    WaitTimeoutError, saying who has not ended.
    """
    running: dict[str, Agent] | None = None
    try:
        async with asyncio.timeout(timeout_s):
            after = await _last(store, keys)
            while True:
                agents = await _agents(store, keys, name)
                if not agents and running is None:
                    note(f"nothing heard of {name or keys.name} yet; waiting")
                running = {who: a for who, a in agents.items() if a.status not in ENDED}
                if agents and not running:
                    return agents
                after = await _until_something_ends(store, keys, after)
    except TimeoutError:
        if not running:
            left = f"nothing was heard of {name or keys.name}"
        else:
            left = ", ".join(f"{who} is {agent.status.value}" for who, agent in running.items())
        raise WaitTimeoutError(f"waited {timeout_s:g} s in {keys.name}: {left}") from None


async def _last(store: ClientStore, keys: SessionKeys) -> bytes:
    newest = await store.entries(keys.log, b"-", b"+", 1, newest_first=True)
    return newest[0][0] if newest else BEGINNING


async def _agents(store: ClientStore, keys: SessionKeys, name: str | None) -> dict[str, Agent]:
    if name is None:
        return await retry(Session(store, keys).agents)
    (stored,) = await retry(lambda: store.fields(keys.agents, [name]))
    with foreign.reading(keys.agents, "hash"):
        return {} if stored is None else {name: msgspec.json.decode(stored, type=Agent)}


async def _until_something_ends(store: ClientStore, keys: SessionKeys, after: bytes) -> bytes:
    """Read the log on until an agent may have ended; return the place reached."""
    place = {keys.log: after}
    while True:
        found = await retry(lambda: store.read_streams(place, PAGE, BLOCK_MS))
        entries: list[Entry] = found.get(keys.log, [])
        if entries:
            place[keys.log] = entries[-1][0]
        if any(_may_end(flat) for _, flat in entries):
            return place[keys.log]


def _may_end(flat: list[bytes]) -> bool:
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    # Besides what agents say themselves, what follows from a timer can end one.
    return fields.get(b"type") in _ENDINGS or fields.get(b"kind") == Kind.DERIVED.value.encode()
