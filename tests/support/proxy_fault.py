"""What a proxy can do to a request or its reply, and which requests it does it to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from fabric.store import scripts

Request = list[bytes]
Match = Callable[[Request], bool]


class Fault(Enum):
    """What becomes of a request, or of its reply."""

    #: The request goes through; its reply is lost with the connection.
    CUT_REPLY = "cut reply"
    #: The request goes through; its reply never comes, the connection stays.
    SWALLOW_REPLY = "swallow reply"
    #: The request goes through; its reply waits until the rule is lifted.
    DELAY_REPLY = "delay reply"
    #: The request is lost with the connection.
    CUT_REQUEST = "cut request"
    #: The connection is lost at once; the request goes through when the rule is lifted.
    LATE_REQUEST = "late request"
    #: The request goes through twice; one reply comes back.
    REPEAT_REQUEST = "repeat request"


@dataclass
class Rule:
    """A fault that befalls the requests that match, after the first `skip`, `times` times."""

    fault: Fault
    match: Match
    times: int = 1
    skip: int = 0
    #: How often it has struck.
    struck: int = 0
    #: Requests that have been let through after all, and answered.
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
    """Match requests that have these words in an argument."""
    return lambda request: all(any(word in part for part in request) for word in words)


def every_of(*matches: Match) -> Match:
    """Match what all of these match."""
    return lambda request: all(match(request) for match in matches)
