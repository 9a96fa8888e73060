"""`python -m workers orchestrator|synthesizer`: the daemon's own entry point."""

from __future__ import annotations

import argparse
import sys

from fabric.config import settings
from fabric.core.declaration import fields
from fabric.errors import FabricError
from workers.daemon import GROUPS, serve


def main() -> int:
    """Run one daemon until SIGTERM or SIGINT; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("worker", choices=sorted(GROUPS))
    for field in fields(settings.Settings):
        if field.name in ("redis_url", "namespace") or field.declared.worker_flag:
            parser.add_argument(settings.flag(field.name), help=field.sentence)
    parser.add_argument("--name", help="name of this replica (default: host and process id)")
    flags = vars(parser.parse_args())
    worker, name = flags.pop("worker"), flags.pop("name")
    try:
        return serve(worker, settings.load(**flags), name)
    except FabricError as error:
        sys.stderr.write(f"fabric: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
