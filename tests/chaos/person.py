"""A person who answers questions: `python -m tests.chaos.person URL DIRECTORY SESSION…`.

It answers questions that are addressed to no agent, and those that an agent leaves unanswered.
"""

import asyncio
import sys
import time
from contextlib import suppress

from fabric.client.fabric import Fabric
from fabric.core.record import EscalationState
from fabric.errors import FabricError
from tests.chaos.roster import PARTITIONS

#: Time between two looks at the questions, s.
LOOK_S = 0.5
#: Time that an agent has to answer, ms.
PATIENCE_MS = 3_000


async def answer(fabric: Fabric, session: str) -> None:
    """Decide every question of a session that waits for a person."""
    for number, question in (await fabric.session(session).escalations()).items():
        if question.state is not EscalationState.OPEN:
            continue
        if question.to and time.time() * 1000 - question.asked_ms < PATIENCE_MS:
            continue
        decision = question.options[0] if question.options else "go on"
        payload = {"escalation": number, "decision": decision, "by": "alice"}
        with suppress(FabricError):  # tried again at the next look
            await fabric.emit(
                [{"session": session, "type": "DECIDED", "emitter": "alice", "payload": payload}]
            )


async def main(url: str, sessions: list[str]) -> None:
    while True:
        try:
            async with Fabric.connect(url, partitions=PARTITIONS) as fabric:
                while True:
                    for session in sessions:
                        await answer(fabric, session)
                    await asyncio.sleep(LOOK_S)
        except FabricError as error:
            sys.stderr.write(f"person: {error}\n")
            await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[3:]))
