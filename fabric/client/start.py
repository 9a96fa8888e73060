"""The start of an agent's incarnation, under a name that another living process may have.

Before it starts, the library looks whom the name belongs to. If that process was on this host and
is gone, the start says so (`takes_over`), and is a restart. If it may be alive, the library waits
for the decision: NAME_TAKEN ends the start with an error, or goes on under the name that it offers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fabric.client.message import Message, given
from fabric.client.request import Requests
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.identity import ANY_INSTANCE, NAME_TAKEN
from fabric.core.record import ENDED, AgentRecord
from fabric.core.signal import SignalType
from fabric.devserver import instance
from fabric.errors import NameTakenError, NotAllowedError

#: How long a start waits for the decision whether its name is free, s. A worker that takes over
#: from a dead one needs a lease; after that no orchestrator is at work, and a refusal comes later.
DECISION_S: Final = 5.0


class Start:
    """Which process the agent is, and whether it takes its name from another."""

    def __init__(self, given_instance: str | None = None, *, take_over: bool = False) -> None:
        self._given = given_instance
        self._take_over = take_over
        self.instance = ""
        #: The instance that has the name and is gone, as it was found.
        self._gone = ""

    def begin(self) -> str:
        """Return the id under which the agent starts, a new one each time."""
        self.end()
        self.instance = self._given or instance.begin()
        return self.instance

    def end(self) -> None:
        """Take note that the agent has ended."""
        instance.end(self.instance)

    async def send(
        self,
        requests: Requests,
        declared: dict[str, Any],
        deadline: float,
        listen: Callable[[], None],
    ) -> None:
        """Send STARTED, and `listen`. Raises NameTakenError for the name of a living process.

        Waits for the decision, for `DECISION_S` at most, only if there may be such a process.
        """
        sender, keys = requests.sender, requests.session.keys
        present = None
        if sender.incarnation > 1:  # the first to enrol finds nobody
            read = partial(read_record, requests.store, keys.agents, sender.name, AgentRecord)
            present = await sender.emitter.retry(read, deadline=deadline)
        holder = present.instance if present is not None and present.status not in ENDED else ""
        if holder in ("", sender.instance) or instance.is_gone(holder):
            self._gone = holder or self._gone
            holder = ""
        takes_over = ANY_INSTANCE if self._take_over else self._gone or None
        payload = {**declared, **given(takes_over=takes_over), "confirm": True}
        last = present.incarnation if present is not None else 0
        if self._take_over or not (holder or sender.incarnation > last + 1):
            await sender.send(SignalType.STARTED, payload, deadline=deadline)
            listen()
            return
        listen()
        taken: list[NameTakenError] = []
        match = partial(_decision, requests, taken)
        async with requests.opened(match, reads_dead=False) as request:
            await request.send(SignalType.STARTED, payload)
            try:
                limit = asyncio.get_running_loop().time() + DECISION_S
                async with asyncio.timeout_at(min(deadline, limit)):
                    await request.answer()
            except TimeoutError:
                return  # nobody decides anything now: a refusal ends the agent later
            except NotAllowedError:
                if taken:
                    raise taken[0] from None
                raise

    def goes_on(self, taken: NameTakenError) -> bool:
        """Whether the process that has the name is gone, so that a second try can take it over."""
        if taken.instance == self._gone or not instance.is_gone(taken.instance):
            return False
        self._gone = taken.instance
        return True


def _decision(requests: Requests, taken: list[NameTakenError], message: Message) -> bool | None:
    """Match the acceptance of STARTED; note in `taken` that its name is another process's."""
    said = message.payload
    is_mine = said.get("incarnation") == requests.sender.incarnation
    if message.type == DirectiveType.NOTICE and said.get("code") == NAME_TAKEN and is_mine:
        words = (str(said.get(field) or "") for field in ("reason", "instance", "name"))
        taken.append(NameTakenError(*words))
    return requests.confirmation(message)
