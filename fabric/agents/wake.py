"""Wakes the clients of idle agents: somebody wants something of an agent whose turn is over.

Claude Code   its plugin's monitor runs `follow.py`; each line begins a turn. With `-p` and
              `--input-format stream-json`, `fabric run` writes the line to its standard input
OpenCode      its plugin runs `follow.py`, and begins a turn with `promptAsync`
Codex         the daemon runs `codex queue`, which its terminal looks at every few seconds
Gemini CLI    nothing wakes it: it reads what has come with its user's next prompt
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from fabric.agents.decision import Facts, wake
from fabric.agents.member import Member
from fabric.agents.process import client_of, is_alive
from fabric.agents.request import Request

logger = logging.getLogger("fabric.agentd")

#: Seconds between two looks whether there is something to wake a client for.
LOOK_S = 0.5

#: Seconds for `codex queue`.
QUEUE_S = 30.0

#: Words by which Codex works without its terminal: then it ends with its turn.
_HEADLESS = frozenset({"exec", "e", "review"})


async def line(asked: Request, members: Callable[[], Iterable[Member]]) -> bytes:
    """Return the line that wakes a client, when there is one; b"" when the client has ended."""
    client = client_of(asked.pid)
    while is_alive(client):
        for member in members():
            if _is_meant(asked, member) and (text := await _text(member)):
                return f"{text}\n".encode()
        await asyncio.sleep(LOOK_S)
    return b""


def _is_meant(asked: Request, member: Member) -> bool:
    conversation = asked.head.get("conversation")
    if conversation:
        return member.conversation == conversation and "/" not in member.name
    return member.run_pid == asked.pid and member.name == asked.head.get("FABRIC_AGENT")


async def _text(member: Member) -> str:
    news = await member.waking_news()
    return wake(Facts(agent=member.name, session=member.session, news=news)).replace("\n", " ")


def _terminal(pid: int) -> Path | None:
    """Return Codex's program if a process of it has a person; None if it ends with its turn."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
        return None if _HEADLESS & set(words[1:]) else Path(f"/proc/{pid}/exe").readlink()
    except OSError:  # it has ended, or this system does not tell
        return None


async def queue(member: Member) -> None:
    """Wake Codex's terminal, if there is something to wake it for."""
    program = _terminal(member.pid)
    if program is None or not (text := await _text(member)):
        return
    process = await asyncio.create_subprocess_exec(
        *(program, "queue", "--thread", member.conversation, "--message", text),
        cwd="/",
        env=dict(member.variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), QUEUE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        said = b"it took too long"
    if process.returncode:
        logger.warning("%s was not woken: %s", member.name, said.decode("utf-8", "replace")[-500:])
