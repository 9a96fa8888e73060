"""`python -m fabric.agents SOCKET`: the agent daemon; hooks start it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from fabric.agents import hook
from fabric.agents.daemon import Daemon
from fabric.agents.request import BODY_BYTES_MAX


async def serve(path: Path, folder: Path) -> None:
    """Serve on a socket until there is nothing to do, or a signal."""
    daemon = Daemon(folder)
    server = await asyncio.start_unix_server(daemon.connected, path, limit=BODY_BYTES_MAX)
    running = asyncio.create_task(daemon.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await running
    finally:
        # A hook that comes now starts another daemon, which waits for the lock.
        server.close()
        await daemon.close()


def main(words: list[str]) -> int:
    """Run the daemon, unless one runs; return the exit code."""
    environ = os.environb
    path = Path(os.fsdecode(words[0] if words else hook.socket_path(dict(environ))))
    folder = Path(os.fsdecode(hook.folder(dict(environ))))
    for one in (folder, path.parent):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
        if one.stat().st_uid != os.geteuid():
            sys.stderr.write(f"fabric: {one} belongs to another user\n")
            return 4
        one.chmod(0o700)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    with (folder / "daemon.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The one before may be about to end: wait for that, and take its place.
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        os.chdir("/")
        os.umask(0o177)  # the socket is its owner's
        path.unlink(missing_ok=True)
        asyncio.run(serve(path, folder))
        path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
