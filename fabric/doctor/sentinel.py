"""Checks of a primary behind sentinels: whether they agree, and whether there is one primary."""

from __future__ import annotations

from collections import Counter

from fabric.doctor.server import Finding, Level
from fabric.errors import FabricError
from fabric.store.redis import RedisStore

#: Sentinels that a failover needs to survive the loss of one host (redis.io, "Sentinel").
SENTINELS_MIN = 3


async def sentinels(store: RedisStore) -> list[Finding]:
    """Judge the sentinels, and the servers that they know; nothing without sentinels."""
    views = await store.sentinels()
    if not views:
        return []
    named = Counter(view.primary for view in views if view.primary)
    troubles = [f"{view.address} {view.trouble}" for view in views if view.trouble]
    said = ", ".join(f"{count} name {primary}" for primary, count in named.most_common())
    found = f"{len(views)} sentinels: {said or 'none names a primary'}"
    level, advice = Level.OK, ""
    if len(named) != 1:
        level = Level.FAIL
        advice = "sentinels that were cut off follow when they are back; look at their network"
    elif troubles:
        level, found = Level.WARN, f"{found}; {'; '.join(troubles)}"
        advice = "too few that agree cannot fail over: look at those that are named"
    elif len(views) < SENTINELS_MIN:
        level, advice = Level.WARN, f"run {SENTINELS_MIN}, on hosts of their own, and name all"
    addresses = {one for view in views for one in (view.primary, *view.replicas) if one}
    return [Finding("sentinels", level, found, advice), await _primaries(store, sorted(addresses))]


async def _primaries(store: RedisStore, addresses: list[str]) -> Finding:
    """Look for a second primary: what it takes is lost when the network is whole again."""
    primaries, silent = [], []
    for address in addresses:
        try:
            if await store.role(address) == "master":
                primaries.append(address)
        except FabricError:
            silent.append(address)
    unknown = f"; {', '.join(silent)} could not be asked" if silent else ""
    if len(primaries) > 1:
        found = f"{' and '.join(primaries)} are primaries at once{unknown}"
        advice = "REPLICAOF on the one that the sentinels do not name: what it takes will be lost"
        return Finding("split brain", Level.FAIL, found, advice)
    if not primaries:
        return Finding("split brain", Level.UNKNOWN, f"not known: no primary answers{unknown}")
    level = Level.WARN if silent else Level.OK
    return Finding("split brain", level, f"one primary, {primaries[0]}{unknown}")
