"""`python -m workers orchestrator|synthesizer`: the daemon's own entry point."""

from __future__ import annotations

import argparse
import sys

from fabric.config import settings
from fabric.errors import FabricError
from workers.daemon import GROUPS, serve


def main() -> int:
    """Run one daemon until SIGTERM or SIGINT; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("worker", choices=sorted(GROUPS))
    parser.add_argument(
        "--redis-url", help="server; default: FABRIC_REDIS_URL, or the project's own"
    )
    parser.add_argument("--namespace")
    parser.add_argument("--partitions", type=int, help="only counts when the namespace is new")
    parser.add_argument("--lease-ms", type=int)
    parser.add_argument("--batch-signals-max", type=int)
    parser.add_argument("--name", help="name of this replica; default: host and process")
    flags = vars(parser.parse_args())
    worker, name = flags.pop("worker"), flags.pop("name")
    try:
        return serve(worker, settings.load(**flags), name)
    except FabricError as error:
        sys.stderr.write(f"fabric: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
