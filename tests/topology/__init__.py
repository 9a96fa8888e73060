"""Servers that stand together: Redis Sentinel, and Redis Cluster. Real processes on 127.0.0.1.

Plain classes, no pytest; each is a context manager that leaves neither a process nor a file.

    with Sentinels("redis-7.0") as service:            # sentinel.py: a primary, two replicas,
        service.url                                    # three sentinels with a quorum of two
        service.primary, service.replicas              # Node: as the sentinels say at the moment
        service.nodes, service.sentinels               # all of them, in a fixed order
        service.failover()                             # in order; returns the new primary
        killed = service.kill_primary()                # SIGKILL; the sentinels find out
        service.wait_primary(other_than=killed)        # returns the new primary
        killed.start()                                 # comes back, and becomes a replica
        service.wait_healthy()                         # all that run are connected and agree

    with Cluster("redis-7.0") as cluster:              # cluster.py: three primaries, a replica each
        cluster.url                                    # redis://…; cluster.seeds names them all
        cluster.primaries, cluster.nodes               # Node; the primaries by their first slot
        cluster.owner("fabric:{3}:signals")            # Node that serves a key's slot
        cluster.move_slots(range(0, 100), a, b)        # live resharding, whole slots
        with cluster.moving(slot, a, b) as move:       # half-way: ASK and TRYAGAIN meanwhile
            move.take(key)                             # one key goes over
        killed = cluster.kill_primary(0)
        cluster.wait_healthy()                         # every slot is served, as all see it
        killed.start(); cluster.wait_healthy(of=6)     # it comes back as a replica

`Node` (node.py) is a `tests.support.servers.RunningServer` on a TCP port: cli, start, stop, kill,
alive, pid; and freeze, thaw, address. Options are redis-server's own:
`Cluster(flavour, "--appendonly", "yes")`.
"""
