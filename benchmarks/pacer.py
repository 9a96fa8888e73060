"""`python -m benchmarks.pacer`: send one entry repeatedly at a steady rate.

The schedule is absolute: after a late send the next ones catch up, so that the rate is kept. Each
entry holds the time just before it was sent, by the monotonic clock of the machine.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.connection import BenchmarkError, Connection

#: Placeholders for the number and the time (ns) in an entry.
NUMBER = b"@number@"
_STAMP = b"0000000000000000001"
_MARK = b"stamp:"
STAMPED = (_MARK + _STAMP).decode()

#: Number of the first entry that is sent here; one was sent before, to wait for the worker.
_FIRST = 2

#: Time for a sender to start, s.
_START_SECONDS = 0.2


def fill(template: list[bytes], number: int, stamp_ns: int) -> list[bytes]:
    """Return an entry's fields with its number and time."""
    stamped = b"%019d" % stamp_ns
    written = b"%d" % number
    return [part.replace(_STAMP, stamped).replace(NUMBER, written) for part in template]


def stamp(fields: list[bytes]) -> int:
    """Return the time in a message, ns. Raises BenchmarkError when there is none."""
    for value in fields[1::2]:
        at = value.find(_MARK)
        if at >= 0:
            start = at + len(_MARK)
            return int(value[start : start + len(_STAMP)])
    raise BenchmarkError("a message came without the time at which it was sent")


def main() -> int:
    """Send all entries, then exit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacer", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("template", nargs="+", help="fields and values, in hexadecimal digits")
    flags = parser.parse_args()
    template = [bytes.fromhex(part) for part in flags.template]
    connection = Connection(flags.url)
    start = time.monotonic() + _START_SECONDS
    for number in range(flags.count):
        pause_s = start + number / flags.rate - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        fields = fill(template, _FIRST + number, time.monotonic_ns())
        connection.call("XADD", flags.key, "*", *fields)
    return 0


if __name__ == "__main__":
    sys.exit(main())
