"""Writes what a process finds when it starts, then does what its first word says."""

import json
import os
import random
import signal
import sys


def main() -> None:
    found = {
        "words": sys.argv[1:],
        "folder": os.getcwd(),  # noqa: PTH109 - the process's own
        "environment": dict(os.environ),
        "files": sorted(map(int, os.listdir("/dev/fd"))),  # noqa: PTH208 - numbers, not paths
        "signals": {
            number.name: str(signal.getsignal(number))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)
        },
        "streams": [
            [stream.name, stream.encoding, stream.errors, stream.line_buffering]
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "input": sys.stdin.read(),
    }
    sys.stdout.write(f"{json.dumps(found)}\n{random.random()}\n")
    sys.stdout.flush()
    if "fail" in sys.argv:
        sys.exit(3)
    if "wait" in sys.argv:
        signal.pause()
    sys.stdout.write("the rest, flushed at the end\n")


if __name__ == "__main__":
    main()
