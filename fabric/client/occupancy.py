"""One copy of the files, one session at a time: whose claims hold in it.

Claims are those of a session, and sessions are decided apart from each other: two in one copy
would both get PROCEED for `a.py`. So before an agent claims files, its sender notes its session as
the one that works in the copy. A second session is refused while agents of the first are at work
there. We refuse instead of sharing claims, because sessions can be in different partitions, and
nothing is written to two of these at once.

The note is the last entry of a stream for each copy, `fabric:workspace:HOST:TOP`. Each entry has
the number after the last one for its id, so of two that take a copy over only one succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fabric.client.session import Session
from fabric.core.copies import is_in_copy
from fabric.core.limits import listed
from fabric.core.record import ENDED
from fabric.core.signal import Intent
from fabric.errors import ExhaustedError, HeldError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.store.value import parse_id, whole_number
from fabric.wire.entry import decode
from fabric.wire.stored import fields_of

#: For so long after a session has noted itself, its agents count as at work even if the records do
#: not say so: their signals may be under way. Decisions take milliseconds.
UNDER_WAY_MS = 3_000

#: A session in use notes itself again after this time at the earliest.
RENEW_MS = 1_000


async def check(
    store: ClientStore, keys_of: Callable[[str], SessionKeys], entries: Iterable[list[bytes]]
) -> None:
    """Do the same for each checked entry that claims files. Raises what `occupy` does."""
    for signal in map(decode, entries):
        payload = signal.payload
        if isinstance(payload, Intent) and payload.workspace:
            await occupy(store, keys_of, signal.session, payload.workspace, payload.writes)


async def occupy(
    store: ClientStore,
    keys_of: Callable[[str], SessionKeys],
    session: str,
    workspace: str,
    writes: Iterable[str],
) -> None:
    """Note a session as the one that works in a copy of the files, before it claims any.

    Raises HeldError, which names the session and its agents at work there, if it is another.
    """
    if not any(map(is_in_copy, writes)):
        return
    key = store.namespace.workspace(workspace)
    while True:
        last = await store.entries(key, b"-", b"+", 1, newest_first=True)
        now_ms, owner, number, age_ms = await store.now_ms(key), session, 0, UNDER_WAY_MS
        for entry_id, flat in last:
            noted = fields_of(flat)
            owner = noted.get(b"session", b"").decode("utf-8", "replace")
            number = parse_id(entry_id)[0]
            age_ms = now_ms - (whole_number(noted.get(b"ms")) or 0)
        if last and owner == session and 0 <= age_ms < RENEW_MS:
            return
        if owner != session:
            known = await Session(store, keys_of(owner)).agents()
            at_work = [
                name
                for name, agent in known.items()
                if agent.workspace == workspace and agent.status not in ENDED
            ]
            if at_work:
                raise HeldError(
                    f"session {owner} works in {workspace} ({listed(at_work)}), and its claims do "
                    f"not hold in session {session}: work in session {owner} too, close it "
                    f"(fabric close {owner}), or work in a git worktree of your own"
                )
            if 0 <= age_ms < UNDER_WAY_MS:
                await asyncio.sleep((UNDER_WAY_MS - age_ms) / 1000)
                continue
        try:
            await store.occupy(key, number + 1, session, now_ms)
        except ExhaustedError:  # somebody else was faster
            continue
        return
