"""Fuzz targets: a function of bytes, and the errors that it may raise.

Each target is a module in `targets/`: `run` takes any bytes, `ANSWERS` names the errors that it may
raise, `seeds` returns good inputs to begin with, `WORDS` are tokens worth trying. `planted/` holds
three targets that are broken on purpose: they show that the fuzzer finds a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

HOME = Path(__file__).parent

#: Inputs that once found a defect, named for their target; every target tries all of them.
FOUND = HOME / "found"

#: Bytes of one input. Long enough that a quadratic algorithm is noticed.
INPUT_BYTES_MAX = 16_384


@dataclass(frozen=True)
class Target:
    """One parser or boundary. `run` returns, or raises one of `answers`; else it has a defect."""

    name: str
    contract: str
    run: Callable[[bytes], None]
    answers: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]] = field(repr=False)
    words: Sequence[bytes] = field(repr=False)


def names() -> list[str]:
    """Return the names of all targets."""
    return _modules("targets")


def planted() -> list[str]:
    """Return the names of the targets that are broken on purpose."""
    return _modules("planted")


def load(name: str) -> Target:
    """Import a target. Raises LookupError when there is no such target."""
    folder = next((f for f in ("targets", "planted") if name in _modules(f)), None)
    if folder is None:
        raise LookupError(f"no target {name}; there are {', '.join(names())}")
    module = import_module(f"tests.fuzz.{folder}.{name}")
    contract = (module.__doc__ or "").strip()
    return Target(name, contract, module.run, module.ANSWERS, module.seeds, module.WORDS)


def _modules(folder: str) -> list[str]:
    found = (path.stem for path in (HOME / folder).glob("*.py"))
    return sorted(name for name in found if not name.startswith("_"))
