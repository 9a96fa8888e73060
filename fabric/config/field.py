"""What a field of the rule file may hold: bounds with their reasons, checks, and advice.

Advice is what a person is told to write there.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fabric.core.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX
from fabric.core.rules import BarrierPolicy, CheckpointMode, FailFast, RestartPolicy
from fabric.core.signal import SignalType
from fabric.core.synthesis import reducer

#: Longest time, ms: a year. More is a slip of the unit, and sums stay far below what Lua counts.
TIME_MS_MAX = 365 * 86_400_000
#: Most of what a session may hold of one kind. Its state is one thing in memory, read and written
#: whole when it moves: above this, several sessions do better.
SESSION_MAX = 1_000_000
#: Priorities are within what STARTED may give.
PRIORITY_MAX = 1_000_000
#: Longest chain of answers: each hop is a signal, so this many is a loop, whatever it is for.
HOPS_MAX = 10_000
#: More signals a second than one partition takes in: beyond it a limit limits nothing.
SIGNALS_PER_SECOND_MAX = 1_000_000
#: An agent is late every so often; a multiple of its rhythm beyond this is no rhythm.
FACTOR_MAX = 1_000
#: More deaths in a row than this are no reason to wait for still more.
DEATHS_MAX = 1_000
#: Characters of one argument of the hook; a program takes more from a file.
ARGUMENT_CHARS_MAX = 4_096
#: Arguments of the hook.
ARGUMENTS_MAX = 64
#: Refiners of a synthesis: each is a process for each session, again and again.
REFINERS_MAX = 16


def _name(value: str) -> str:
    """Names are those an agent may have: they stand in keys, tables and terminals."""
    if not 1 <= len(value) <= NAME_CHARS_MAX or not value.isprintable() or value != value.strip():
        raise PydanticCustomError(
            "name", "1 to {most} printable characters, no outer spaces", {"most": NAME_CHARS_MAX}
        )
    return value


def _agent(value: str) -> str:
    """`*` means everyone where agents are told things, and is nobody's name."""
    if value == "*":
        raise PydanticCustomError("name", "* is no agent", {})
    return _name(value)


def optional_agent(value: str) -> str:
    """Check an agent's name; nobody, "", is right as well. Raises PydanticCustomError."""
    return value and _agent(value)


def _argument(value: str) -> str:
    """The operating system takes no NUL in an argument."""
    if "\0" in value or len(value) > ARGUMENT_CHARS_MAX or not value.isprintable():
        raise PydanticCustomError("argument", "printable text", {})
    return value


def command(value: list[str]) -> list[str]:
    """Check that a list of arguments begins with a program. Raises PydanticCustomError."""
    if value and not value[0].strip():
        raise PydanticCustomError("program", "names no program", {"found": "no program's name"})
    return value


def _pointer(value: str) -> str:
    """A JSON Pointer (RFC 6901) or a glob of several: `~` only as a part of `~0` and `~1`."""
    if not value.startswith("/") or re.search("~(?![01])", value):
        raise PydanticCustomError("pointer", "no JSON Pointer", {})
    return _name(value)


def _reducer(value: str) -> str:
    """A built-in name in another spelling is a slip; every other name may be a package's."""
    meant = {_spelling(name): name for name in sorted(reducer.KNOWN)}.get(_spelling(value), value)
    if meant != value:
        found = f'"{value}", nearly a reducer\'s name'
        raise PydanticCustomError("reducer", "nearly", {"found": found, "meant": meant})
    return _name(value)


def _spelling(name: str) -> str:
    """Return what is left of a name without case, separators and repeated letters."""
    return re.sub(r"(.)\1+", r"\1", re.sub(r"[\W_]", "", name.casefold()))


def _unique(value: list[str]) -> list[str]:
    for index, item in enumerate(value):
        if item in value[:index]:
            raise PydanticCustomError("twice", "twice", {"found": f'"{item}" twice'})
    return value


def no_twins(key: str) -> Any:
    """Return a check that no two tables of a list have the same text in a field."""

    def check(value: list[Any]) -> list[Any]:
        seen: set[str] = set()
        for index, item in enumerate(value):
            text = getattr(item, key)
            if text in seen:
                what = {"found": f'"{text}" once more', "index": index, "key": key}
                raise PydanticCustomError("twin", "twice", what)
            seen.add(text)
        return value

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(_name)]
AgentName = Annotated[str, AfterValidator(_agent)]
Names = Annotated[list[Name], Field(max_length=LIST_ITEMS_MAX), AfterValidator(_unique)]
Checkpoints = Annotated[
    list[Name], Field(min_length=1, max_length=LIST_ITEMS_MAX), AfterValidator(_unique)
]
Agents = Annotated[
    list[AgentName], Field(min_length=1, max_length=LIST_ITEMS_MAX), AfterValidator(_unique)
]
Argument = Annotated[str, AfterValidator(_argument)]
Pointer = Annotated[str, AfterValidator(_pointer)]
ReducerName = Annotated[str, AfterValidator(_reducer)]
Refiners = Annotated[list[Name], Field(max_length=REFINERS_MAX), AfterValidator(_unique)]
Priority = Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Time = Annotated[int, Field(ge=1, le=TIME_MS_MAX)]
TimeOrNone = Annotated[int, Field(ge=0, le=TIME_MS_MAX)]
Amount = Annotated[int, Field(ge=1, le=SESSION_MAX)]
#: TOML has no enumerations: words stand for them. Strictness would take the members only.
Mode = Annotated[CheckpointMode, Field(strict=False)]
Policy = Annotated[BarrierPolicy, Field(strict=False)]
Failing = Annotated[FailFast, Field(strict=False)]
Restarting = Annotated[RestartPolicy, Field(strict=False)]
Kind = Annotated[SignalType, Field(strict=False)]

TIME_ADVICE = f"milliseconds, a whole number from 1 to {TIME_MS_MAX} (a year)"
TIME_OR_NONE_ADVICE = f"milliseconds, a whole number from 0 ({{}}) to {TIME_MS_MAX} (a year)"
AMOUNT_ADVICE = f"a whole number from 1 to {SESSION_MAX}"
SWITCH_ADVICE = "true or false, without quotes"
NAME_ADVICE = f"of 1 to {NAME_CHARS_MAX} printable characters, in double quotes"
GLOBS_ADVICE = "a list of globs, none twice: [{}]"
REDUCERS_ADVICE = ", ".join(f'"{name}"' for name in sorted(reducer.KNOWN))
FAIL_FAST_ADVICE = '"off", "cancel" or "escalate"'
