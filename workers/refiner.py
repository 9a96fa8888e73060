"""One run of a refiner, in a process of its own: `python -m workers.refiner NAME < document.json`.

What comes in is the official document, as `fabric synthesis --json` prints it; `--memory FILE`
keeps what the next run need not make again.

The refiner is a user's code: it may hang, crash, print, or use up the memory, and the worker goes
on. The answer on standard output is JSON: `{"value": …}` or `{"error": "KeyError at x.py:12"}`. It
never repeats the text of an exception: that may be a secret, and the worker logs the answer. Run
by hand, the traceback is on standard error.

Every run pays for the imports: beside the standard library only what reads a document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

#: Group of the entry points that are refiners.
GROUP: Final = "fabric.refiners"

#: Bytes of memory that a run may take, not counting the files that it maps. Several runs at a time
#: must not starve the worker; a model that needs more runs in a server, which the refiner asks.
MEMORY_BYTES_MAX: Final = 4 * 2**30

#: Bytes of an answer. It becomes part of a signal's payload, which may have 1 MiB.
ANSWER_BYTES_MAX: Final = 1_000_000


def main() -> int:
    """Run the named refiner on the document; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.refiner", description=__doc__)
    parser.add_argument("name", help=f"an entry point of {GROUP}")
    parser.add_argument("--seconds-max", type=int, default=0, help="0: as long as it takes")
    parser.add_argument("--memory", type=Path, help="what is kept for the next run")
    flags = parser.parse_args()
    # For when our worker was killed meanwhile. No code handles this signal, so it ends any code.
    signal.alarm(flags.seconds_max)
    _bound_memory()
    answer = os.dup(1)
    # What the refiner prints must not become part of the answer.
    os.dup2(2, 1)
    said = _encoded(_answer(flags.name, flags.memory))
    with os.fdopen(answer, "wb") as file:
        file.write(said)
    return 0


def _bound_memory() -> None:
    """Bound our memory; and when the machine runs out of it, end this process, not the worker."""
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        bound = MEMORY_BYTES_MAX if most == resource.RLIM_INFINITY else min(most, MEMORY_BYTES_MAX)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(name: str, memory: Path | None) -> dict[str, Any]:
    try:
        document = json.load(sys.stdin.buffer)
        found = [*entry_points(group=GROUP, name=name)]
        if not found:
            return {"error": f"no package installed here has it in {GROUP}"}
        hooks = found[0].load()
        from workers.refining import refine  # the workers look only whether a refiner is there

        refined = refine(hooks, document, memory)
    except BaseException as error:  # SystemExit too: the worker must hear of it
        traceback.print_exc()
        # Of several `map` at a time, the first that failed.
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return {"error": f"{type(error).__name__}{_place(error)}"}
    return {"value": refined}


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        said = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        traceback.print_exc()
        return _encoded({"error": f"its answer is not JSON ({type(error).__name__})"})
    if len(said) > ANSWER_BYTES_MAX:
        excess = f"its answer has {len(said)} bytes; at most {ANSWER_BYTES_MAX}"
        return _encoded({"error": excess})
    return said


if __name__ == "__main__":
    sys.exit(main())
