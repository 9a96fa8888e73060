"""What `fabric orchestrator` and `fabric synthesizer` have in common: all but the name."""

from __future__ import annotations

import click

from fabric.cli.connect import Target, open_store
from fabric.cli.options import on_target


def daemon(worker: str, task: str) -> click.Command:
    """Return the command that serves as a worker until it is told to stop."""

    @click.command(
        worker,
        help=f"Serve as {worker}: {task}\n\nAny number may run, on any number of hosts; they share "
        "the partitions out among themselves. SIGTERM or Ctrl-C drains: what was read is "
        "committed, then it ends.",
    )
    @on_target()
    @click.option("--lease-ms", type=int, help="After so long a dead one is replaced.")
    @click.option("--batch-signals-max", type=int, help="Signals handled at a time, at most.")
    @click.option("--partitions", type=int, help="Counts only while the namespace is new.")
    @click.option("--name", help="Name of this one; if you say nothing, host and process.")
    def command(target: Target, name: str | None, **limits: int | None) -> int:
        from fabric.config.settings import load
        from workers.daemon import serve

        # The URL's faults are told before logging begins, in words that keep the password.
        open_store(target)
        url = target.redis_url.get_secret_value() if target.redis_url else None
        return serve(worker, load(redis_url=url, namespace=target.namespace, **limits), name)

    return command
