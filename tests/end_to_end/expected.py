"""One agent of a run that expects it: `python -m tests.end_to_end.expected URL NAME [SLEEP_MS]`.

It starts, reports a finding, prints a line, and completes when its input ends. With SLEEP_MS it
announces a silence of that length and stops its own process, as a laptop that is closed does. Exit
code 5: its name belongs to another living process.
"""

import os
import signal
import sys

from fabric.client.sync import SyncFabric
from fabric.errors import EndedError, NameTakenError

SESSION = "expected"


def main() -> int:
    url, name, *sleep = sys.argv[1:]
    try:
        with (
            SyncFabric.connect(url, session=SESSION, heartbeat_ms=2_000) as fabric,
            fabric.agent(name) as agent,
        ):
            agent.partial_result({"findings": [{"key": name, "value": os.getpid()}]})
            if sleep:
                agent.heartbeat(expect_ms=int(sleep[0]))
            sys.stdout.write("started\n")
            sys.stdout.flush()
            if sleep:
                os.kill(os.getpid(), signal.SIGSTOP)
            sys.stdin.read()
    except (NameTakenError, EndedError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, NameTakenError) else 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
