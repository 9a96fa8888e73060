"""What is fuzzed: a function of bytes, what it may answer, and what it must do otherwise.

Each target is a module of its own, in `targets/`: `run` takes any bytes, `ANSWERS` names the errors
that are its clear answer, `seeds` returns good inputs to begin with, `WORDS` are tokens worth
trying. `planted/` has three that are broken on purpose: they show that a defect would be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

HOME = Path(__file__).parent

#: Inputs that were found once, by target: each is tried on every target for ever.
FOUND = HOME / "found"

#: Bytes of one input. Long enough that what grows with the square of its length shows.
INPUT_BYTES_MAX = 16_384


@dataclass(frozen=True)
class Target:
    """One parser or boundary. `run` returns, or raises one of `answers`."""

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
    """Return the names of those that are broken on purpose."""
    return _modules("planted")


def load(name: str) -> Target:
    """Import a target. Raises LookupError when there is none of that name."""
    folder = next((f for f in ("targets", "planted") if name in _modules(f)), None)
    if folder is None:
        raise LookupError(f"no target {name}; there are {', '.join(names())}")
    module = import_module(f"tests.fuzz.{folder}.{name}")
    contract = (module.__doc__ or "").strip()
    return Target(name, contract, module.run, module.ANSWERS, module.seeds, module.WORDS)


def _modules(folder: str) -> list[str]:
    found = (path.stem for path in (HOME / folder).glob("*.py"))
    return sorted(name for name in found if not name.startswith("_"))
