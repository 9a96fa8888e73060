"""One server that the daemon's agents work with: its connection, and whether it can be used now.

While the server, or its orchestrator, is away, hooks are answered at once, and their events are
kept (`spool.py`). The link looks every `LOOK_S` whether that is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from fabric.client.fabric import Fabric
from fabric.config.settings import Settings
from fabric.errors import FabricError, ServerError
from fabric.ops.overview import partition
from fabric.store.keys import ORCHESTRATORS
from fabric.store.redis import RedisStore

logger = logging.getLogger("fabric.agentd")

#: Seconds between two looks whether a server is back.
LOOK_S = 1.0

#: Seconds for an orchestrator that has just been started to begin, and between two looks.
START_S = 1.5
POLL_S = 0.05

#: How long a call is tried, ms: a client waits for its hook.
TRY_MS = 2_000


class Link:
    """A connection that many agents share."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings, self.url = settings, url
        store = RedisStore(url, settings.namespace, name="fabric-agentd")
        self.fabric = Fabric(store, settings)
        self._is_open = False
        #: Why it cannot be used, and since when it was looked at; "" if it can.
        self.outage = ""
        self._looked_at = 0.0
        self._opening = asyncio.Lock()

    def down(self, error: object) -> None:
        """Note that it cannot be used."""
        if not self.outage:
            logger.warning("%s", error)
        self.outage, self._looked_at = str(error), time.monotonic()

    async def check(self) -> bool:
        """Return whether it can be used; look, if it could not a while ago."""
        if self._is_open and not self.outage:
            return True
        async with self._opening:
            if self._is_open and not self.outage:
                return True
            if self.outage and time.monotonic() - self._looked_at < LOOK_S:
                return False
            try:
                async with asyncio.timeout(TRY_MS / 1000):
                    await self._look()
            except (FabricError, TimeoutError, OSError) as error:
                self.down(str(error) or "the server does not answer.")
                return False
        if self.outage:
            logger.warning("the server is back")
        self.outage = ""
        return True

    async def _look(self) -> None:
        if not self._is_open:
            await self.fabric.__aenter__()
            self._is_open = True
        # At first, wait for one that has just been started, with this client for example.
        deadline = time.monotonic() + (0 if self.outage else START_S)
        while not await self._is_served():
            if time.monotonic() > deadline:
                raise ServerError("no orchestrator runs (`fabric up` starts one).")
            await asyncio.sleep(POLL_S)

    async def _is_served(self) -> bool:
        for number in range(self.fabric.partitions):
            found = await partition(self.fabric.store, number)
            if any(one.held and one.group == ORCHESTRATORS for one in found.holders):
                return True
        return False

    async def close(self) -> None:
        """Close the connection."""
        with suppress(FabricError, OSError):
            await self.fabric.__aexit__(None, None, None)
