"""Checks of the partitions: who holds their leases, what waits, which have lost their epoch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import Enum
from typing import Final, NamedTuple

from fabric.core.limits import listed
from fabric.doctor.content import is_epoch
from fabric.doctor.server import REFUSED, Finding, Level
from fabric.errors import TamperedError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from fabric.store.port import BEGINNING
from fabric.store.redis import RedisStore
from fabric.store.value import whole_number
from fabric.view.text import counted

#: Partitions, or holders, that one line names; the others are counted.
NAMED_MAX: Final = 8

#: Between two looks at a backlog, s: longer than a worker needs to take over.
LOOKS_APART_S: Final = 2.0

#: Group of workers → what it works on, and the command that starts one.
GROUPS: Final = {
    ORCHESTRATORS: ("signals", "`fabric up` or `fabric orchestrator`"),
    SYNTHESIZERS: ("results", "`fabric up` or `fabric synthesizer`"),
}


class _State(Enum):
    HELD = "a worker holds it"
    FREE = "no worker holds it, and nothing waits"
    WAITING = "no worker holds it, and something waits"
    UNSEEDED = "its epoch is lost"


async def leases(store: RedisStore, group: str, partitions: int) -> list[Finding]:
    """Say which partitions are held, which wait for a worker, and which cannot be held."""
    findings = []
    work, starting = GROUPS[group]
    states = [one async for one in _states(store, group, partitions)]
    holders = Counter(owner for _, state, owner, _ in states if state is _State.HELD)
    waiting = [number for number, state, _, _ in states if state is _State.WAITING]
    unseeded = [number for number, state, _, _ in states if state is _State.UNSEEDED]
    if unseeded:
        lost = "the lease has lost its epoch, so no worker takes it"
        found = f"partition {_listed(unseeded)}: {lost}"
        advice = "`fabric doctor --reseed` sets one above any epoch handed out before"
        findings.append(Finding(group, Level.FAIL, found, advice))
    is_idle = not waiting and not unseeded and not holders
    alive, unknown = await _alive(store, group) if waiting or is_idle else (0, "")
    if waiting:
        entries = sum(count for _, _, _, count in states)
        found = f"partition {_listed(waiting)}: nobody works on it, and {entries} {work} wait"
        advice = f"start one with {starting}"
        found += unknown
        if alive:
            found += f"; {alive} {group} are alive"
            advice = "they may be about to take it: run this again, then see their logs"
        findings.append(Finding(group, Level.WARN, found, advice))
    elif is_idle:
        level = Level.UNKNOWN if unknown else Level.OK
        is_any = "" if unknown else f" {alive} alive,"
        found = f"none holds a partition,{is_any} and nothing waits{unknown}"
        findings.append(Finding(group, level, found))
    elif not unseeded:
        found = f"{holders.total()} of {partitions} partitions held, by {_listed(holders)}"
        findings.append(Finding(group, Level.OK, found))
    return findings


async def peers(store: RedisStore, group: str) -> list[Finding]:
    """Say what is odd about a group's workers: other rules, other builds, one that rests."""
    now_ms, records = await store.workers(group)
    alive = {name: said for name, said in records.items() if said.until_ms > now_ms}
    findings = []
    rules = {said.rules for said in alive.values()}
    if len(rules) > 1:
        found = f"they work by {len(rules)} rule files, which take turns with each take-over"
        advice = "`fabric workers` shows who has which; give all of them the same"
        findings.append(Finding(group, Level.FAIL, found, advice))
    builds = sorted({said.build for said in alive.values()})
    if len(builds) > 1:
        found = f"they run different code: {', '.join(builds)}"
        findings.append(Finding(group, Level.WARN, found, "upgrade the rest (fabric workers)"))
    for name, said in sorted(alive.items()):
        if said.rests:
            found = f"{name} on {said.host} rests: {said.rests}"
            findings.append(Finding(group, Level.WARN, found, "look at its network"))
    return findings


async def backlog(store: RedisStore, group: str, partitions: int) -> list[Finding]:
    """Look twice whether what waits grows, and whether a worker is alive at all."""
    work, starting = GROUPS[group]
    alive, unknown = await _alive(store, group)
    if not alive:
        level = Level.UNKNOWN if unknown else Level.FAIL
        return [Finding(group, level, f"none is alive{unknown}", f"start one with {starting}")]
    before = [await _position(store, group, number) for number in range(partitions)]
    await asyncio.sleep(LOOKS_APART_S)
    after = [await _position(store, group, number) for number in range(partitions)]
    grown = [
        number
        for number, (first, then) in enumerate(zip(before, after, strict=True))
        if then.waiting > first.waiting > 0 or (first.waiting and then.at == first.at)
    ]
    if not grown:
        return []
    count = sum(after[number].waiting for number in grown)
    found = f"partition {_listed(grown)}: {count} {work} wait, and they grow or stand still"
    return [Finding(group, Level.FAIL, found, "see the workers' logs (fabric workers)")]


class _Position(NamedTuple):
    at: bytes
    waiting: int


async def _position(store: RedisStore, group: str, number: int) -> _Position:
    names = store.namespace.partition(number)
    try:
        (committed,) = await store.fields(names.lease(group), ("committed",))
        at = committed or BEGINNING
        return _Position(at, await _waiting(store, names.source(group), at))
    except TamperedError:
        return _Position(BEGINNING, 0)  # the check of the keys reports it


async def reseed(store: RedisStore, partitions: int) -> list[Finding]:
    """Give every partition that lost its epoch a new one, above any handed out before."""
    findings = []
    for group in GROUPS:
        async for partition, state, _, _ in _states(store, group, partitions):
            if state is not _State.UNSEEDED:
                continue
            level = Level.OK
            try:
                epoch = await store.reseed(partition, group)
                found = f"partition {partition}: {group} go on above epoch {epoch}"
            except TamperedError as error:
                level, found = Level.FAIL, str(error)
            findings.append(Finding("re-seeded", level, found))
    return findings or [Finding("re-seeded", Level.OK, "nothing: no partition has lost its epoch")]


async def dead_letters(store: RedisStore, partitions: int) -> Finding:
    """Count the refused signals that are still kept."""
    count = 0
    for number in range(partitions):
        with suppress(TamperedError):  # the check of the keys reports it
            count += await store.length(store.namespace.partition(number).dead)
    if not count:
        return Finding("dead letters", Level.OK, "none")
    found = f"{counted(count, 'signal')} refused and kept"
    advice = "`fabric dead` shows them with the reasons, and can send them again"
    return Finding("dead letters", Level.WARN, found, advice)


async def _states(
    store: RedisStore, group: str, partitions: int
) -> AsyncIterator[tuple[int, _State, str, int]]:
    """Yield each partition's number, its state, its holder, and how many entries may wait."""
    try:
        (meta,) = await store.hashes([store.namespace.meta])
    except TamperedError:
        meta = {}
    for number in range(partitions):
        names = store.namespace.partition(number)
        try:
            # The time first: so a lease that is renewed in between does not look expired.
            now_ms = await store.now_ms(names.lease(group))
            owner, epoch, expires, committed = await store.fields(
                names.lease(group), ("owner", "epoch", "expires", "committed")
            )
            is_new = not any((owner, epoch, expires, committed))
            if not is_epoch(epoch) and not (
                is_new and f"seeded:{group}:{number}".encode() not in meta
            ):
                yield number, _State.UNSEEDED, "", 0
                continue
            if owner and (whole_number(expires) or 0) > now_ms:
                yield number, _State.HELD, owner.decode(errors="replace"), 0
                continue
            count = await _waiting(store, names.source(group), committed or BEGINNING)
            yield number, _State.WAITING if count else _State.FREE, "", count
        except TamperedError:
            continue  # the check of the keys reports it


async def _alive(store: RedisStore, group: str) -> tuple[int, str]:
    """Return how many workers of a group have sent a recent heartbeat; or that we may not ask."""
    key = store.namespace.replicas(group)
    now_ms = await store.now_ms(key)
    try:
        return int(await store.call("ZCOUNT", key, now_ms, "+inf", at=key)), ""
    except TamperedError:
        return 0, ""  # the check of the keys reports it
    except REFUSED as error:
        return 0, f"; how many {group} are alive is not known: {error}"


async def _waiting(store: RedisStore, source: str, committed: bytes) -> int:
    """Return how many entries may wait; committed ones are trimmed only from time to time."""
    if not await store.entries(source, b"(" + committed, b"+", 1):
        return 0
    return await store.length(source)


def _listed(items: list[int] | Counter[str]) -> str:
    return listed(sorted(map(str, items), key=lambda name: (len(name), name)), NAMED_MAX)
