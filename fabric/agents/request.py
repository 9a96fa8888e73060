"""What a hook, or `fabric run`, asks of the daemon: the frames of `hook.py`, read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fabric.config import settings as configuration
from fabric.config.settings import Settings
from fabric.devserver import advice, server_url
from fabric.devserver.project import Project, nearest
from fabric.errors import CallerError, ConfigError

#: Bytes of a head and of a body. An input holds a whole file that is written.
HEAD_BYTES_MAX = 65_536
BODY_BYTES_MAX = 64 * 1024 * 1024

#: Characters of a derived name after its harness, and of a sub-agent's: people read both often.
ID_CHARS = 6
SUB_ID_CHARS = 9


@dataclass(frozen=True)
class Target:
    """The server, session and agent that a request is for."""

    settings: Settings
    url: str
    session: str
    stream: str


@dataclass(frozen=True)
class Request:
    """One request. `head` has the settings of the client, under their variables' names."""

    head: Mapping[str, str]
    body: bytes
    #: As it was sent, to be kept.
    frame: bytes

    @cached_property
    def cwd(self) -> str:
        """The folder that the client works in."""
        return self.head.get("cwd") or "/"

    @property
    def wait_s(self) -> float:
        """Seconds that the client may wait."""
        return _number(self.head.get("wait_s", "20"))

    @property
    def is_closed(self) -> bool:
        """Whether writes are refused while nothing can be coordinated."""
        return self.head.get("closed") == "1"

    @property
    def pid(self) -> int:
        """The process that asked: the client, or a shell that it has started."""
        return int(_number(self.head.get("CLAUDE_PID") or self.head.get("ppid", "0")))

    def agent(self, harness: str, session_id: str, sub_id: str = "") -> str:
        """Return the agent's name: short, and the same for each event of a conversation."""
        digest = hashlib.sha1(session_id.encode(), usedforsecurity=False).hexdigest()
        name = self.head.get("FABRIC_AGENT") or f"{harness}-{digest[:ID_CHARS]}"
        return f"{name}/{sub_id[:SUB_ID_CHARS]}" if sub_id else name

    def target(self, folder: str) -> Target:
        """Return the server and session for a folder. Raises ConfigError without a server."""
        at = Path(folder)
        settings = configuration.load_for(at, self.head)
        url = server_url(settings, at)
        if url is None:
            raise ConfigError(f"no server: {advice()}")
        return Target(settings, url, settings.session or session_of(at), settings.stream or "")

    def is_expected(self, folder: str) -> bool:
        """Whether a server is named for a folder, or has run there: it may come back."""
        if self.head.get("FABRIC_REDIS_URL"):
            return True
        try:
            return Project(nearest(Path(folder)).root).is_private()
        except OSError:
            return False


def session_of(folder: Path) -> str:
    """Return the session of a project that names none: the name of its folder.

    Two hosts with clones of one repository share it, and so do all of its worktrees.
    """
    name = nearest(folder).root.name or "root"
    return "".join(one if one.isprintable() and one != ":" else "-" for one in name).strip() or "-"


def parse(frame: bytes) -> Request:
    """Return the request in a whole frame. Raises CallerError."""
    line, _, rest = frame.partition(b"\n")
    head_bytes, body_bytes = lengths(line)
    if len(rest) != head_bytes + body_bytes:
        raise CallerError("a request that is cut off")
    words = rest[:head_bytes].split(b"\0")[:-1]
    texts = [os.fsdecode(word) for word in words]
    return Request(dict(zip(texts[::2], texts[1::2], strict=False)), rest[head_bytes:], frame)


def lengths(line: bytes) -> tuple[int, int]:
    """Return the lengths of head and body that a frame's first line gives. Raises CallerError."""
    words = line.split()
    if len(words) != 3 or words[0] != b"FABRIC1" or not all(map(bytes.isdigit, words[1:])):
        raise CallerError("no request of a fabric hook")
    head, body = int(words[1]), int(words[2])
    if head > HEAD_BYTES_MAX or body > BODY_BYTES_MAX:
        raise CallerError(f"a request of {head + body} bytes: too large")
    return head, body


def _number(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 2.0**31)
    except ValueError:
        return 0.0
