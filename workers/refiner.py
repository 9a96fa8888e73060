"""One run of a refiner, in a process of its own: `python -m workers.refiner NAME < document.json`.

The code is anybody's: it may hang, crash, print, or want all of the memory, and the worker goes on.
The answer on standard output is JSON: `{"value": …}`, or `{"error": "KeyError at refine.py:12"}`.
It never says what an exception says: that may be a secret, and the answer gets into a log. Who runs
this by hand sees it on standard error.

Only the standard library is imported: each run pays for it.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Awaitable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

#: Group of the entry points that are refiners.
GROUP: Final = "fabric.refiners"

#: Bytes of memory that a run may take, files that it maps apart. Some of them at a time must not
#: starve the worker; a model that needs more has a server of its own, which the refiner asks.
MEMORY_BYTES_MAX: Final = 4 * 2**30

#: Bytes of an answer. It travels as a signal's payload, which may have 1 MiB with all around it.
ANSWER_BYTES_MAX: Final = 1_000_000


def main() -> int:
    """Run the refiner of a name on the document; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.refiner", description=__doc__)
    parser.add_argument("name", help=f"an entry point of {GROUP}")
    parser.add_argument("--seconds-max", type=int, default=0, help="0: as long as it takes")
    flags = parser.parse_args()
    # Whoever started us may be gone by then, SIGKILLed. Nobody handles it: it ends any code.
    signal.alarm(flags.seconds_max)
    _bound_memory()
    answer = os.dup(1)
    # What the refiner prints is no part of the answer.
    os.dup2(2, 1)
    said = _encoded(_answer(flags.name))
    with os.fdopen(answer, "wb") as file:
        file.write(said)
    return 0


def _bound_memory() -> None:
    """Bound our memory; when there is too little for all, let us go first, not the worker."""
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        bound = MEMORY_BYTES_MAX if most == resource.RLIM_INFINITY else min(most, MEMORY_BYTES_MAX)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(name: str) -> dict[str, Any]:
    try:
        document = json.load(sys.stdin.buffer)
        found = [*entry_points(group=GROUP, name=name)]
        if not found:
            return {"error": f"no package installed here has it in {GROUP}"}
        refined = found[0].load()(document)
        if inspect.isawaitable(refined):
            refined = asyncio.run(_awaited(refined))
    except BaseException as error:  # whatever it is, SystemExit too: the worker is to be told
        traceback.print_exc()
        return {"error": f"{type(error).__name__}{_place(error)}"}
    return {"value": refined}


async def _awaited(refining: Awaitable[Any]) -> Any:
    return await refining


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        said = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        traceback.print_exc()
        return _encoded({"error": f"it has answered with what is no JSON ({type(error).__name__})"})
    if len(said) > ANSWER_BYTES_MAX:
        excess = f"it has answered with {len(said)} bytes, {ANSWER_BYTES_MAX} are allowed"
        return _encoded({"error": excess})
    return said


if __name__ == "__main__":
    sys.exit(main())
