"""Asks the agent daemon something for which it may take days to answer, from an event loop."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from fabric.agents import hook


async def ask(op: str, agent: str) -> bytes:
    """Return what the daemon says about the agent that this process runs; b"" if nothing.

    Raises OSError if the daemon does not run, or has ended meanwhile.
    """
    path = hook.socket_path(dict(os.environb))
    head = {b"op": op.encode(), b"FABRIC_AGENT": os.fsencode(agent), b"ppid": b"%d" % os.getpid()}
    head[b"cwd"] = bytes(Path.cwd())
    if os.stat(os.path.dirname(path)).st_uid != os.geteuid():  # noqa: PTH116, PTH120 - the path is bytes
        raise PermissionError(path)
    reader, writer = await asyncio.open_unix_connection(os.fsdecode(path))
    try:
        writer.write(hook.request([word for pair in head.items() for word in pair], b""))
        code, size, _ = map(int, (await reader.readline()).split() or (1, 0, 0))
        return b"" if code else await reader.readexactly(size)
    except (ValueError, asyncio.IncompleteReadError) as error:
        raise OSError("the daemon's answer was cut off") from error
    finally:
        writer.close()
