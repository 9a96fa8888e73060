"""A cluster of three primaries with one replica each; slots can be moved while they serve."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.support.node import HOST, Node, TopologyError, start_node, wait

#: Primaries, each with one replica.
PRIMARIES = 3

#: Milliseconds of silence after which a node counts as dead: longer than a healthy node on a busy
#: machine is ever silent.
NODE_TIMEOUT_MS = 1_500

#: Keys that one MIGRATE moves, and milliseconds that it may take.
MIGRATE_KEYS = 100
MIGRATE_MS = 10_000

_NODE = (
    'save ""',
    "appendonly no",
    "cluster-enabled yes",
    "cluster-config-file nodes.conf",
    # Let a replica take over even if its link has been down for long.
    "cluster-replica-validity-factor 0",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-ping-replica-period 1",
)

_PASSING = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)


class Move:
    """A slot half-way from one primary to another; the source redirects for moved keys."""

    def __init__(self, slot: int, source: Node, target: Node) -> None:
        self.slot = slot
        self.source = source
        self.target = target

    def take(self, *keys: str) -> None:
        """Move these keys."""
        place = (HOST, self.target.port, "", 0, MIGRATE_MS)
        self.source.cli("MIGRATE", *place, "REPLACE", "KEYS", *keys)

    def take_rest(self) -> None:
        """Move all keys that are still at the source."""
        while keys := self.source.cli("CLUSTER", "GETKEYSINSLOT", self.slot, MIGRATE_KEYS):
            self.take(*keys)


#: Seconds after which a manual failover is requested again; the server gives up after five.
FAILOVER_SECONDS = 8.0


class Cluster:
    """The running cluster."""

    def __init__(self, flavour: str, *options: str, node_timeout_ms: int = NODE_TIMEOUT_MS) -> None:
        self.nodes: list[Node] = []
        lines = (*_NODE, f"cluster-node-timeout {node_timeout_ms}")
        try:
            for _ in range(2 * PRIMARIES):
                self.nodes.append(start_node(flavour, lines, *options))
            self._found()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return a URL that names one node."""
        return next(node for node in self.nodes if node.answers).url

    @property
    def seeds(self) -> str:
        """Return a URL that names all nodes."""
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    @property
    def primaries(self) -> list[Node]:
        """Return the nodes that serve slots, in slot order. Raises TopologyError when none does."""
        found = [node for _, _, node in sorted(self._ranges(), key=lambda row: row[0])]
        return list({node.port: node for node in found}.values())

    def owner(self, key: str) -> Node:
        """Return the primary that serves a key."""
        slot = key_slot(key.encode())
        for first, last, node in self._ranges():
            if first <= slot <= last:
                return node
        raise TopologyError(f"nobody serves slot {slot}")

    def move_slots(self, slots: Iterable[int], source: Node, target: Node) -> None:
        """Move whole slots from one primary to another while both serve."""
        for slot in slots:
            with self.moving(slot, source, target) as move:
                move.take_rest()

    @contextmanager
    def moving(self, slot: int, source: Node, target: Node) -> Iterator[Move]:
        """Begin to move a slot; on exit, move the remaining keys and tell all primaries."""
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", _name(source))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", _name(target))
        move = Move(slot, source, target)
        yield move
        move.take_rest()
        # The target first, so that the slot always has an owner.
        others = [node for node in self.primaries if node not in (source, target)]
        for node in (target, source, *others):
            node.cli("CLUSTER", "SETSLOT", slot, "NODE", _name(target))

    def kill_primary(self, number: int) -> Node:
        """Kill the n-th primary with SIGKILL; return it."""
        killed = self.primaries[number]
        killed.kill()
        return killed

    def replica_of(self, primary: Node) -> Node:
        """Return a primary's replica. Raises TopologyError when none runs."""
        for node in self.nodes:
            if node.info("replication").get("master_port") == str(primary.port):
                return node
        raise TopologyError(f"no replica of {primary.address}")

    def failover(self, number: int) -> Node:
        """Have the n-th primary's replica take over (CLUSTER FAILOVER); return that replica."""
        replica = self.replica_of(self.primaries[number])
        asked_s = 0.0

        def has_taken_over() -> bool:
            nonlocal asked_s
            if replica.info("replication").get("role") == "master":
                return True
            # Under load the two may not agree in time; the server then gives up by itself.
            if time.monotonic() - asked_s > FAILOVER_SECONDS:
                asked_s = time.monotonic()
                replica.cli("CLUSTER", "FAILOVER")
            return False

        wait(has_taken_over, "the replica takes over")
        return replica

    def wait_healthy(self, of: int | None = None) -> None:
        """Wait until all running nodes agree on who serves every slot, and each replica is in sync.

        `of`: also wait until this many nodes run.
        """
        wait(lambda: self._is_healthy(of), lambda: f"all slots are served: {self._seen()}")

    def close(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.remove()

    def _found(self) -> None:
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        share = REDIS_CLUSTER_HASH_SLOTS // PRIMARIES
        for number, node in enumerate(self.nodes):
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.cli("CLUSTER", "MEET", HOST, self.nodes[0].port)
        for number, node in enumerate(primaries):
            last = number == PRIMARIES - 1
            upto = REDIS_CLUSTER_HASH_SLOTS if last else (number + 1) * share
            node.cli("CLUSTER", "ADDSLOTS", *range(number * share, upto))
        wait(self._have_met, "all nodes know each other")
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.cli("CLUSTER", "REPLICATE", _name(primary))
        self.wait_healthy(of=len(self.nodes))

    def _have_met(self) -> bool:
        return all(
            _state(node).get("cluster_known_nodes") == str(len(self.nodes)) for node in self.nodes
        )

    def _ranges(self) -> list[tuple[int, int, Node]]:
        """Return the slot ranges as the first node that answers sees them."""
        ports = {node.port: node for node in self.nodes}
        for asked in self.nodes:
            if not asked.answers:
                continue
            try:
                reply = asked.cli("CLUSTER", "SLOTS")
            except _PASSING:
                continue
            return [(first, last, ports[primary[1]]) for first, last, primary, *_ in reply]
        raise TopologyError("no node answers")

    def _is_healthy(self, of: int | None) -> bool:
        running = [node for node in self.nodes if node.answers]
        if of is not None and len(running) < of:
            return False
        for node in running:
            if _state(node).get("cluster_state") != "ok":
                return False
            known = node.info("replication")
            if known.get("role") != "master" and known.get("master_link_status") != "up":
                return False
        serving = {_view(node) for node in running}
        return len(serving) == 1 and set(dict.fromkeys(serving).popitem()[0]) <= {
            node.port for node in running
        }

    def _seen(self) -> str:
        return "; ".join(
            f"{node.address} {_state(node).get('cluster_state', 'silent')} "
            f"{node.info('replication').get('role', '')}"
            for node in self.nodes
        )


def _name(node: Node) -> str:
    return str(node.cli("CLUSTER", "MYID"))


def _state(node: Node) -> dict[str, str]:
    """Return CLUSTER INFO; empty when the node does not answer."""
    if not node.answers:
        return {}
    try:
        rows = str(node.cli("CLUSTER", "INFO")).splitlines()
    except _PASSING:
        return {}
    return dict(row.split(":", 1) for row in rows if ":" in row)


def _view(node: Node) -> tuple[int, ...]:
    """Return the ports that serve the slots, by first slot, as one node sees it."""
    try:
        return tuple(row[2][1] for row in sorted(node.cli("CLUSTER", "SLOTS")))
    except _PASSING:
        return ()
