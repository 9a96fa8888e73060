"""Fuzz one target with atheris in this process, until its time is over or something is found.

`python -m tests.fuzz.engine TARGET MEMORY_BYTES FLAG...`; the flags are libFuzzer's.
"""

from __future__ import annotations

import resource
import sys

import atheris

from tests.fuzz.judge import judge
from tests.fuzz.target import load

#: Packages whose branches the fuzzer follows.
TRACED = ["fabric", "workers", "jsonpatch", "jsonpointer", "tomllib"]


def main() -> None:
    """Fuzz the target that the arguments name. Never returns: the fuzzer ends the process."""
    name, memory_bytes, *flags = sys.argv[1:]
    # Code that asks for more gets a MemoryError, which no target may raise.
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes),) * 2)
    with atheris.instrument_imports(include=TRACED):
        target = load(name)

    def once(data: bytes) -> None:
        judge(target, data)

    atheris.Setup([sys.argv[0], *flags], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
