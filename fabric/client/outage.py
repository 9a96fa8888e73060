"""Reading on through an outage, for who follows something and has nothing else to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fabric.errors import UnavailableError, UnreachableError

logger = logging.getLogger("fabric.outage")

T = TypeVar("T")

#: Pause before the server is asked again, s.
RETRY_S = 0.5


async def outlast(read: Callable[[], Awaitable[T]]) -> T:
    """Return what `read` returns, as soon as the server is there for it; say once that it is not.

    Only for reading: it is done again and again until it succeeds. Other errors are raised.
    """
    is_told = False
    while True:
        try:
            return await read()
        except (UnreachableError, UnavailableError) as error:
            if not is_told:
                logger.warning("%s; trying until it is back", error)
                is_told = True
            await asyncio.sleep(RETRY_S)
