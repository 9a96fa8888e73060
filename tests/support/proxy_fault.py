"""Faults that a proxy applies to requests and replies, and how to match requests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from fabric.store import scripts

Request = list[bytes]
Match = Callable[[Request], bool]


class Fault(Enum):
    """What the proxy does to a request or its reply."""

    #: The request goes through; the connection is cut before the reply.
    CUT_REPLY = "cut reply"
    #: The request goes through; the reply never comes, and the connection stays open.
    SWALLOW_REPLY = "swallow reply"
    #: The request goes through; the reply waits until the rule is lifted.
    DELAY_REPLY = "delay reply"
    #: The connection is cut before the request goes through.
    CUT_REQUEST = "cut request"
    #: The connection is cut at once; the request goes through when the rule is lifted.
    LATE_REQUEST = "late request"
    #: The request goes through twice; one reply comes back.
    REPEAT_REQUEST = "repeat request"


@dataclass
class Rule:
    """A fault for the requests that match: `times` times, after the first `skip`."""

    fault: Fault
    match: Match
    times: int = 1
    skip: int = 0
    #: How often it has been applied.
    struck: int = 0
    #: Late requests that have gone through and were answered.
    landed: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def strikes(self, request: Request) -> bool:
        if self.struck >= self.times or not self.match(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck += 1
        return True


def command(name: str) -> Match:
    """Match requests by the command's name."""
    return lambda request: request[0].upper() == name.encode()


def script(verb: str) -> Match:
    """Match calls of one of our scripts, by its digest or by its text."""
    known = {scripts.digest(verb).encode(), scripts.source(verb).encode()}
    return lambda request: len(request) > 1 and request[1] in known


def carrying(*words: bytes) -> Match:
    """Match requests with an argument that contains each of these."""
    return lambda request: all(any(word in part for part in request) for word in words)


def every_of(*matches: Match) -> Match:
    """Match requests that all of these match."""
    return lambda request: all(match(request) for match in matches)
