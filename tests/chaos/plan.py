"""Which fault comes next: decks of cards, shuffled by the seed, so that each kind comes again.

Two decks are played at the same time, one against servers and workers, one against agents.
"""

import random
from collections.abc import Iterator

from tests.chaos.faults import agent, network, server, worker
from tests.chaos.scene import Fault

#: Fault → times in one deck.
Deck = dict[str, tuple[Fault, int]]

#: Against workers, whatever the servers.
WORKERS: Deck = {
    "kill orchestrator": (worker.kill_orchestrator, 3),
    "kill synthesizer": (worker.kill_synthesizer, 2),
    "kill all workers": (worker.kill_all, 1),
    "freeze orchestrator": (worker.freeze_orchestrator, 1),
    "freeze synthesizer": (worker.freeze_synthesizer, 1),
}

#: Against one server and the way to it.
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

#: Against agents, whatever the servers.
SPEAKERS: Deck = {
    "kill agents": (agent.kill_host, 4),
    "kill senders": (agent.kill_speaker, 2),
    "freeze agents": (agent.freeze_host, 1),
}

#: Against agents behind a proxy.
AGENTS: Deck = {
    **SPEAKERS,
    "cut agents off": (agent.cut, 1),
    **{name: (fault, 1) for name, fault in network.AGENTS.items()},
}


def deal(deck: Deck, chance: random.Random) -> Iterator[tuple[bool, str, Fault]]:
    """Yield card after card, for ever; with each, whether it begins another deck."""
    while True:
        cards = [(name, fault) for name, (fault, times) in deck.items() for _ in range(times)]
        chance.shuffle(cards)
        for number, (name, fault) in enumerate(cards):
            yield number == 0, name, fault
