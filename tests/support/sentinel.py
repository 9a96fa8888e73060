"""A primary, two replicas, and three sentinels that promote a replica when the primary fails."""

from types import TracebackType

import redis

from fabric.wire.stored import fields_of
from tests.support.node import HOST, Node, TopologyError, start_node, wait

#: Data nodes, sentinels, and how many sentinels must agree that the primary is down.
DATA_NODES = 3
SENTINELS = 3
QUORUM = 2

#: Name of the monitored primary and its replicas.
SERVICE = "fabric"

#: Milliseconds of silence after which a sentinel takes a node for dead; and the failover timeout: a
#: failed failover is tried again after twice this time.
DOWN_AFTER_MS = 1_000
FAILOVER_MS = 3_000

#: Synchronise a replica at once: do not wait for other replicas to join.
_DATA = (
    'save ""',
    "appendonly no",
    "repl-diskless-sync yes",
    "repl-diskless-sync-delay 0",
    "repl-ping-replica-period 1",
)

#: Replies that mean "not now".
_PASSING = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)


class Sentinels:
    """The running nodes. `min_replicas`: the number of replicas in sync that a write needs."""

    def __init__(
        self,
        flavour: str,
        *options: str,
        min_replicas: int = 0,
        down_after_ms: int = DOWN_AFTER_MS,
    ) -> None:
        self.nodes: list[Node] = []
        self.sentinels: list[Node] = []
        lines = (*_DATA, f"min-replicas-to-write {min_replicas}", "min-replicas-max-lag 2")
        try:
            for _ in range(DATA_NODES):
                self.nodes.append(start_node(flavour, lines, *options))
            first = self.nodes[0]
            for node in self.nodes[1:]:
                node.cli("REPLICAOF", HOST, first.port)
                node.cli("CONFIG", "REWRITE")
            watching = (
                f"sentinel monitor {SERVICE} {HOST} {first.port} {QUORUM}",
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
                f"sentinel failover-timeout {SERVICE} {FAILOVER_MS}",
                f"sentinel parallel-syncs {SERVICE} {DATA_NODES}",
            )
            for _ in range(SENTINELS):
                self.sentinels.append(start_node(flavour, watching, flags="--sentinel"))
            self.wait_healthy()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Sentinels":
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
        """Return the URL of the service."""
        return f"redis+sentinel://{','.join(one.address for one in self.sentinels)}/{SERVICE}"

    @property
    def primary(self) -> Node:
        """Return the node that most sentinels name as primary and that reports itself as one.

        Raises TopologyError while there is none.
        """
        found = self._primary()
        if found is None:
            raise TopologyError(f"no primary at the moment: {self._seen()}")
        return found

    @property
    def replicas(self) -> list[Node]:
        """Return all other data nodes."""
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    def failover(self) -> Node:
        """Have the sentinels promote a replica of a healthy primary; return the new primary."""
        before = self.primary
        wait(self._is_accepted, lambda: f"a failover is accepted: {self._seen()}")
        return self.wait_primary(other_than=before)

    def kill_primary(self) -> Node:
        """SIGKILL the primary; return the node. The sentinels need a while to react."""
        killed = self.primary
        killed.kill()
        return killed

    def wait_primary(self, other_than: Node | None = None) -> Node:
        """Wait for a primary other than this node; return it."""
        found: list[Node] = []

        def is_there() -> bool:
            now = self._primary()
            if now is None or now is other_than:
                return False
            found.append(now)
            return True

        wait(is_there, lambda: f"there is a new primary: {self._seen()}")
        return found[-1]

    def wait_healthy(self) -> None:
        """Wait until all running nodes know each other, and every replica is in sync."""
        wait(self._is_healthy, lambda: f"all agree and are in step: {self._seen()}")

    def close(self) -> None:
        """Stop all nodes."""
        for node in (*self.sentinels, *self.nodes):
            node.remove()

    def _primary(self) -> Node | None:
        votes = [self._named_by(one) for one in self.sentinels if one.answers]
        for node in self.nodes:
            if votes.count(node.address) * 2 > len(votes) and _role(node) == "master":
                return node
        return None

    def _named_by(self, sentinel: Node) -> str:
        try:
            reply = sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        except _PASSING:
            return ""
        return ":".join(reply or ())

    def _is_accepted(self) -> bool:
        sentinel = next(one for one in self.sentinels if one.answers)
        try:
            return bool(sentinel.cli("SENTINEL", "FAILOVER", SERVICE) == "OK")
        except _PASSING:  # no replica known yet, or a failover is under way
            return False

    def _is_healthy(self) -> bool:
        primary = self._primary()
        if primary is None:
            return False
        living = [node for node in self.nodes if node.answers and node is not primary]
        if primary.info("replication").get("connected_slaves") != str(len(living)):
            return False
        if not all(_is_in_step(node, primary) for node in living):
            return False
        return all(self._sees_all(one) for one in self.sentinels if one.answers)

    def _sees_all(self, sentinel: Node) -> bool:
        """Return whether a sentinel knows all others, and reports no running node as down."""
        try:
            rows = sentinel.cli("SENTINEL", "REPLICAS", SERVICE)
            flat = sentinel.cli("SENTINEL", "MASTER", SERVICE)
        except _PASSING:
            return False
        master = fields_of(flat)
        known = [fields_of(row) for row in rows]
        running = {str(node.port) for node in self.nodes if node.answers}
        well = {row["port"] for row in known if row["flags"] == "slave"} | {master["port"]}
        return (
            master["flags"] == "master"
            and int(master["num-other-sentinels"]) == SENTINELS - 1
            and running <= well
        )

    def _seen(self) -> str:
        roles = {node.address: _role(node) or "silent" for node in self.nodes}
        votes = {one.address: self._named_by(one) for one in self.sentinels if one.answers}
        return f"roles {roles}; named by the sentinels {votes}"


def _role(node: Node) -> str:
    return node.info("replication").get("role", "")


def _is_in_step(node: Node, primary: Node) -> bool:
    known = node.info("replication")
    return (
        known.get("role") == "slave"
        and known.get("master_link_status") == "up"
        and known.get("master_port") == str(primary.port)
    )
