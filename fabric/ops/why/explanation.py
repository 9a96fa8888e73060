"""Why an agent is where it is, and what would free it, from the log alone (design, section 5).

The session is rebuilt from its log by running the rules over it; `Chronicle` keeps of the same log
what was said when. From the two follows a tree of causes: the agent's own waits, whom each needs,
and why that one does not go on. One fact is asked of Redis: who has read what (`cursors`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from fabric.core.record import ENDED, Agent
from fabric.errors import NotFoundError
from fabric.ops.log import pages
from fabric.ops.replay import Replay, Until
from fabric.ops.why.blame import Blame
from fabric.ops.why.chronicle import Chronicle
from fabric.ops.why.scene import Cause, Scene, line, names, said_of
from fabric.ops.why.standstill import deadlocked, up_to
from fabric.ops.why.state import due, ended, going, holds, kept_out
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore


class Explanation(Struct):
    """The answer: where an agent stands, the causes, whom it is up to, and how it came there."""

    session: str
    #: When that was opened: times are shown since then.
    opened_ms: int
    agent: str
    status: str
    text: str
    causes: list[Cause]
    #: In the end it is up to these: agents at work, questions, things that nobody makes.
    up_to: list[str]
    refused: list[Cause]
    #: Newest first.
    history: list[Cause]


async def why(
    store: ClientStore,
    keys: SessionKeys,
    agent: str,
    stop: Until | None = None,
    note: Callable[[int], None] | None = None,
) -> Explanation:
    """Explain an agent, as it is or as it was at `stop`.

    `note` hears of the number of events read, now and then. Raises NotFoundError for an unknown
    session or agent, and DivergedError when the log is not what the rules make of it.
    """
    replay, chronicle = Replay(keys, stop), Chronicle()
    if not await _read(store, keys, replay, chronicle, note):
        raise NotFoundError(f"no session {keys.name}: nothing was logged under {keys.log}")
    session = replay.session
    cursors: dict[str, bytes] = {}
    now_ms = session.clock_ms
    if stop is None:
        now_ms = max(now_ms, round(time.time() * 1000))
        (stored,) = await store.hashes([keys.cursors])
        cursors = {name.decode("utf-8", "replace"): place for name, place in stored.items()}
    return explain(Scene(session, replay.rules, chronicle, now_ms, cursors), agent)


async def _read(
    store: ClientStore,
    keys: SessionKeys,
    replay: Replay,
    chronicle: Chronicle,
    note: Callable[[int], None] | None,
) -> bool:
    """Read the log as far as it is wanted; say whether there is one."""
    found = False
    async for page in pages(store, keys, BEGINNING):
        found = True
        for entry in page:
            if not replay.take(entry):
                return True
            chronicle.take(entry)
        replay.delivered.clear()
        if note is not None:
            note(replay.session.log)
    replay.finish()
    return found


def explain(scene: Scene, name: str) -> Explanation:
    """Return the answer for an agent. Raises NotFoundError for one that is not known."""
    agent = scene.session.agents.get(name)
    life = scene.chronicle.life(name)
    if agent is None:
        reasons = "".join(f"; it was refused: {fact.words}" for fact in life.refused)
        known = names(sorted(scene.session.agents.records)) or "none"
        reason = f"no agent {name} in session {scene.session.name}{reasons}; agents: {known}"
        raise NotFoundError(line(reason))
    waits = Blame(scene).waits(name)
    if len(waits) > 1:
        text = f"{name} waits for more than one thing: it goes on when all of these waits are over"
        waits.insert(0, Cause("note", line(text), name))
    causes = [*deadlocked(scene, name), *waits]
    responsible = up_to(scene, name) if causes else []
    if agent.status in ENDED:
        causes += ended(scene, name, agent)
    elif not causes:
        causes += going(scene, name, agent)
    causes += [*kept_out(scene, name, agent), *holds(scene, name, agent), *due(scene, name)]
    return Explanation(
        scene.session.name,
        scene.session.opened_ms,
        name,
        agent.status.value,
        _head(scene, name, agent),
        causes,
        responsible,
        [said_of(scene, fact, "refused") for fact in reversed(life.refused)],
        [said_of(scene, fact, "history") for fact in scene.chronicle.history(name)],
    )


def _head(scene: Scene, name: str, agent: Agent) -> str:
    words = scene.standing(name, name)
    if agent.incarnation > 1:
        words += f"; this is its incarnation {agent.incarnation}"
    return line(words)
