"""The order of faults: decks of cards, shuffled by the seed, so that every kind keeps coming.

Two decks are played at the same time: one against servers and workers, one against agents.
"""

import random
from collections.abc import Iterator

from tests.chaos import clock, upgrade
from tests.chaos.context import Fault
from tests.chaos.deployment import Deployment, SentinelService, Standalone
from tests.chaos.faults import agent, failover, network, server, worker
from tests.chaos.faults import clock as clocks

#: Name → fault, and how often it is in the deck.
Deck = dict[str, tuple[Fault, int]]

#: Against workers, on any deployment.
WORKERS: Deck = {
    "kill orchestrator": (worker.kill_orchestrator, 3),
    "kill synthesizer": (worker.kill_synthesizer, 2),
    "kill all workers": (worker.kill_all, 1),
    "freeze orchestrator": (worker.freeze_orchestrator, 1),
    "freeze synthesizer": (worker.freeze_synthesizer, 1),
}

#: Against a single server and the connections to it.
STANDALONE: Deck = {
    **WORKERS,
    "kill server": (server.kill, 2),
    "restart server": (server.restart, 1),
    "freeze server": (server.freeze, 1),
    "cut connections": (network.cut_all, 2),
    "refuse connections": (network.refuse, 1),
    **{name: (fault, 1) for name, fault in network.WORKERS.items()},
    "flush scripts": (server.flush_scripts, 1),
    "destroy groups": (server.destroy_groups, 1),
    "fill memory": (server.fill_memory, 1),
    "demote server": (server.demote, 1),
    "fill disk": (server.fill_disk, 1),
}

#: Against agents, on any deployment.
SENDERS: Deck = {
    "kill agents": (agent.kill_host, 4),
    "kill senders": (agent.kill_sender, 2),
    "freeze agents": (agent.freeze_host, 1),
}

#: Against agents behind a proxy.
AGENTS: Deck = {
    **SENDERS,
    "cut agents off": (agent.cut, 1),
    **{name: (fault, 1) for name, fault in network.AGENTS.items()},
}


#: Everything is lost, again and again.
FOUNDING: Deck = {"flush everything": (server.flush_all, 2)}

#: Against one server's clock.
CLOCKS: Deck = {
    "jump of the server's clock": (clocks.jump_server, 4),
    "kill orchestrator": (worker.kill_orchestrator, 1),
}

#: Against the clocks of workers, and of agents.
WORKERS_CLOCKS: Deck = {"jump of a worker's clock": (clocks.jump_worker, 1)}
AGENTS_CLOCKS: Deck = {"jump of agents' clocks": (clocks.jump_agents, 1)}


#: Against a primary behind sentinels.
SENTINEL: Deck = {
    **WORKERS,
    "kill primary": (failover.kill_primary, 3),
    "freeze primary": (failover.freeze_primary, 2),
    "fail over in order": (failover.fail_over, 2),
}

#: Against a cluster.
CLUSTER: Deck = {
    **WORKERS,
    "kill primary": (failover.kill_one_primary, 3),
    "fail over in order": (failover.hand_over, 2),
    "move slots": (failover.reshard, 4),
}

#: Workers of two versions, one after the other, while some are killed.
UPGRADE: Deck = {
    "replace all workers": (upgrade.roll, 2),
    "kill orchestrator": (worker.kill_orchestrator, 1),
    "kill synthesizer": (worker.kill_synthesizer, 1),
}


def decks(deployment: Deployment) -> list[tuple[Deck, bool]]:
    """Return the decks for a deployment, each with whether recoveries are measured."""
    workers_clocks, agents_clocks = (
        (WORKERS_CLOCKS, AGENTS_CLOCKS) if clock.library() is not None else ({}, {})
    )
    if isinstance(deployment, Standalone):
        return [({**STANDALONE, **workers_clocks}, True), ({**AGENTS, **agents_clocks}, False)]
    deck = SENTINEL if isinstance(deployment, SentinelService) else CLUSTER
    return [({**deck, **workers_clocks}, True), ({**SENDERS, **agents_clocks}, False)]


def deal(deck: Deck, chance: random.Random) -> Iterator[tuple[bool, str, Fault]]:
    """Yield fault after fault without end; the first value says whether a new deck begins."""
    while True:
        cards = [(name, fault) for name, (fault, times) in deck.items() for _ in range(times)]
        chance.shuffle(cards)
        for number, (name, fault) in enumerate(cards):
            yield number == 0, name, fault
