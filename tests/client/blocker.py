"""A synchronous agent that waits for what nobody produces, until Ctrl-C.

`python -m tests.client.blocker URL` prints what happens, and goes on afterwards.
"""

import sys

from fabric.client.sync import SyncFabric


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(url: str) -> None:
    with SyncFabric.connect(url, session="s", heartbeat_ms=600_000) as fabric:
        with fabric.agent("B") as agent:
            try:
                agent.wait_for("never")
            except KeyboardInterrupt:
                say("interrupted")
            agent.progress(50)
            say("goes on")
            sys.stdin.readline()
        say("ended")


if __name__ == "__main__":
    main(sys.argv[1])
