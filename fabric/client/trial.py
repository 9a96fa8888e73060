"""What will have to be merged, tried at once: whoever gives a file back has git merge the copies.

The orchestrator knows which paths several copies have written, and no lines. So when an agent gives
back what others have written in copies of their own on this host, its sender merges its copy with
theirs on trial (`fabric/devserver/merge.py`) and sends what git finds: CONFLICT_DETECTED of kind
`merge` with both `copies`, in the name of `SENDER`, which is no agent. Copies on other hosts are
looked at by nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from fabric.client.emitter import NO_WORKSPACE, Emitter, checked
from fabric.client.message import Message, strings
from fabric.client.request import Requests
from fabric.client.session import Session, last_id
from fabric.core.copies import ToMerge, to_merge
from fabric.core.divergence import MERGE
from fabric.core.limits import LIST_ITEMS_MAX
from fabric.core.signal import SignalType
from fabric.devserver.merge import UnknownError, merge
from fabric.devserver.path import workspace
from fabric.errors import FabricError
from fabric.store.value import parse_id
from fabric.wire.spelling import encode

logger = logging.getLogger("fabric.agent")

#: The sender of what git finds.
SENDER = "merge-tree"

#: Seconds that an agent's end waits for a trial under way.
END_S = 5.0

#: Signals with which an agent may give something back.
GIVING_BACK = frozenset({SignalType.RELEASE, SignalType.COMPLETED, SignalType.FAILED})


async def report(session: Session, emitter: Emitter, copy: str) -> None:
    """Have git merge a copy of the files with each other one here; send what it finds.

    Only those that have written the same count, and only what is not known yet.
    """
    seen = parse_id(await last_id(emitter.store, session.keys.log))[0]
    records = await session.written()
    everything = to_merge(records)
    here = f"{os.uname().nodename}:"
    others = {one for both in everything.values() if copy in both.copies for one in both.copies}
    for other in sorted(others - {copy}):
        shared = _shared(everything, copy, other)
        if not shared or not (copy.startswith(here) and other.startswith(here)):
            continue
        more = [name for name, one in records.items() if {copy, other} & one.copies.keys()]
        mine, theirs = (one.removeprefix(here) for one in (copy, other))
        try:
            found = await asyncio.to_thread(merge, mine, theirs, shared, more)
        except UnknownError as error:
            logger.info("nobody can say what git makes of %s and %s: %s", copy, other, error)
            continue
        for conflicts, clean in _pages(found.conflicts, found.clean):
            payload: dict[str, Any] = {
                "kind": MERGE,
                "copies": [copy, other],
                "resources": conflicts,
                "clean": clean,
                "seen": seen,
            }
            document = {"session": session.name, "type": "CONFLICT_DETECTED", "emitter": SENDER}
            await emitter.send([checked(encode({**document, "payload": payload}))], numbered=False)


async def report_here(session: Session, emitter: Emitter, named: str | None) -> None:
    """Do so for the copy that the caller has `named`, or is in; for a while, and without an error.

    It is for those who have sent RELEASE, or an end, in the name of an agent.
    """
    copy = None if named == NO_WORKSPACE else named or workspace()
    with suppress(FabricError, TimeoutError):
        async with asyncio.timeout(END_S):
            await report(session, emitter, copy or "")


def _shared(everything: Mapping[str, ToMerge], mine: str, other: str) -> list[str]:
    """Return what both copies have written and nobody has merged on trial since."""
    pair = (min(mine, other), max(mine, other))
    both = {name: one for name, one in everything.items() if one.copies.keys() >= {*pair}}
    return [name for name, one in both.items() if pair not in one.found]


def _pages(conflicts: list[str], clean: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    for start in range(0, max(len(conflicts), len(clean)), LIST_ITEMS_MAX):
        page = slice(start, start + LIST_ITEMS_MAX)
        yield conflicts[page], clean[page]


class Trials:
    """The trials of one agent, one at a time, in the background."""

    def __init__(self, requests: Requests, workspace: str | None) -> None:
        sender = requests.sender
        self._requests, self._workspace = requests, workspace
        self._note, sender.on_sent = sender.on_sent, self._sent
        #: Others have written in other copies what this agent has.
        self._is_concerned = False
        self._is_due = False
        self._trying: asyncio.Task[FabricError | None] | None = None

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note that what the agent writes will have to be merged."""
        said = message.payload
        if message.type == SignalType.CONFLICT_DETECTED and said.get("kind") == MERGE:
            self._is_concerned |= self._requests.name in strings(said.get("agents"))

    def _sent(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Begin a trial if the agent gives back what may have to be merged."""
        self._note(kind, payload)
        # The incarnation before this one may have heard what this one does not.
        is_concerned = self._is_concerned or self._requests.sender.incarnation > 1
        if kind in GIVING_BACK and is_concerned and self._workspace:
            self._is_due = True
            if self._trying is None or self._trying.done():
                self._trying = self._requests.attempt(self._try)

    async def _try(self) -> None:
        requests = self._requests
        while self._is_due and self._workspace:
            self._is_due = False
            await report(requests.session, requests.sender.emitter, self._workspace)

    async def over(self) -> None:
        """Return when no trial is under way, or after a while."""
        if self._trying is not None:
            await asyncio.wait({self._trying}, timeout=END_S)
