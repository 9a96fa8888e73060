"""Waiting until others have asked for a file, by the claims that everybody can read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fabric.client.session import Session

#: The claims are read again after so long, s.
LOOK_S = 0.05


async def until_asked(
    session: Session, names: Collection[str], wanted: str, limit_s: float
) -> list[str]:
    """Wait until each of these agents has, or waits for, a resource; return who has not in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while True:
        claims = (await session.claims()).values()
        asked = {claim.agent for claim in claims if wanted in claim.writes}
        missing = [name for name in names if name not in asked]
        if not missing or loop.time() >= end:
            return missing
        await asyncio.sleep(LOOK_S)
