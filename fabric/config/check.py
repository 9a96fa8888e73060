"""The checks of what a person writes: pydantic models, made from the declarations.

A list becomes a tuple, a table of a list the core's struct: what passes is what the core takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_origin

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError, create_model
from pydantic import Field as Checked
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fabric.config.fault import near, of_pydantic
from fabric.config.settings import Secret, Settings, Source, namespace_fault
from fabric.core.declaration import (
    ARGUMENT_CHARS_MAX,
    Field,
    Items,
    Number,
    Text,
    fields,
)
from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.synthesis import reducer
from fabric.errors import ConfigError

#: Rules: only the fields that there are, only the types that they have.
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)
#: Settings: variables are texts, whatever they stand for, and a file has tables of rules besides.
_LAX = ConfigDict(extra="ignore", frozen=True)


@cache
def rules_model() -> type[BaseModel]:
    """Return the model of a file's tables of rules."""
    tables: dict[str, list[Field]] = {}
    for field in fields(Rules):
        tables.setdefault(field.key.rpartition(".")[0], []).append(field)
    default = Rules()
    every = _fields(tables.pop(""), default)
    for name, table in tables.items():
        inner = _created(name, _STRICT, _fields(table, default))
        every[name] = (inner, Checked(default_factory=inner))
    return _created("rules", _STRICT, every)


def rules_of(checked: BaseModel) -> Rules:
    """Return what a checked file says, as the core takes it."""
    default = Rules()
    values: dict[str, Any] = {}
    for field in fields(Rules):
        value: Any = checked
        for name in field.key.split("."):
            value = getattr(value, name)
        if field.declared.added:
            value = getattr(default, field.name) | value
        values[field.name] = value
    return Rules(**values)


@cache
def settings_model() -> type[BaseModel]:
    """Return the model of settings."""
    return _created("settings", _LAX, _fields(fields(Settings), Settings()))


def settings_of(sources: list[Source]) -> Settings:
    """Return settings from several places, the strongest first. Raises ConfigError."""
    homes = {name: source for source in reversed(sources) for name in source.values}
    try:
        given = {name: home.values[name] for name, home in homes.items()}
        checked = settings_model().model_validate(given)
    except ValidationError as error:
        fault = of_pydantic(error.errors(include_url=False)[0], {})
        source, place = homes[fault.field], homes[fault.field].place(fault.field)
        raise ConfigError(
            f"setting {fault} ({place})" if source.path is None else f"{place}: {fault}"
        ) from None
    return Settings(**dict(checked))


def _created(name: str, config: ConfigDict, checked: dict[str, Any]) -> type[BaseModel]:
    model: type[BaseModel] = create_model(name, __config__=config, **checked)
    return model


def _fields(declared: Any, default: object) -> dict[str, Any]:
    """Return pydantic's fields of declared ones; `default` holds the defaults."""
    return {
        field.key.rpartition(".")[2]: (
            _type(field.hint, field.declared.not_below),
            Checked(
                getattr(default, field.name, ...),
                # A lower bound above the default is as wrong as one above a given value.
                validate_default=bool(field.declared.not_below),
            ),
        )
        for field in declared
    }


def _type(hint: Any, not_below: str = "") -> Any:
    kind = hint.kind
    checks: list[Any] = [check for note in hint.notes for check in _checks(note)]
    if not_below:
        checks.append(AfterValidator(_in_order(not_below)))
    if get_origin(kind) is tuple:  # TOML has lists
        of: Any = tuple
        kind, checks = of[_type(hint.inner[0]), ...], [Checked(strict=False), *checks]
    elif get_origin(kind) is dict:
        of = dict
        kind = of[tuple(map(_type, hint.inner))]
    elif kind is Secret:
        kind, checks = SecretStr, [AfterValidator(_hidden)]
    elif issubclass(kind, StrEnum):  # TOML has words
        checks = [Checked(strict=False)]
    elif issubclass(kind, msgspec.Struct):
        kind, checks = _struct(kind)
    return Annotated[kind, *checks] if checks else kind


def _struct(kind: type[msgspec.Struct]) -> tuple[type[BaseModel], list[Any]]:
    """Return the model of a table in a list of tables, which becomes a struct."""
    defaults = type(
        "defaults",
        (),
        {
            one.name: one.default
            for one in msgspec.structs.fields(kind)
            if one.default is not msgspec.NODEFAULT
        },
    )
    model = _created(kind.__name__, _STRICT, _fields(fields(kind), defaults))
    return model, [AfterValidator(lambda checked: kind(**dict(checked)))]


def _checks(note: Any) -> Iterator[Any]:
    """Return what pydantic checks for an annotation."""
    if isinstance(note, Number):
        yield Checked(ge=note.ge, le=note.le)
    elif isinstance(note, Text) and note in _TEXTS:
        yield AfterValidator(_TEXTS[note])
    elif isinstance(note, Items):
        yield Checked(max_length=note.max)
        if note.min:  # pydantic's own bound would count a wrong item as a missing one
            yield AfterValidator(_not_empty)
        if note.unique:
            yield AfterValidator(_unique)
        if note.distinct:
            yield AfterValidator(_distinct(note.distinct))
        if note.program:
            yield AfterValidator(_program)


def _hidden(value: SecretStr) -> Secret | None:
    return Secret(value.get_secret_value()) if value else None


def _name(value: str) -> str:
    if not 1 <= len(value) <= NAME_CHARS_MAX or not value.isprintable() or value != value.strip():
        raise PydanticCustomError("name", "no name", {})
    return value


def _agent(value: str) -> str:
    if value == "*":
        raise PydanticCustomError("name", "* is no agent", {})
    return _name(value)


def _namespace(value: str) -> str:
    if namespace_fault(value) is not None:
        raise PydanticCustomError("name", "no namespace", {})
    return value


def _argument(value: str) -> str:
    if "\0" in value or len(value) > ARGUMENT_CHARS_MAX or not value.isprintable():
        raise PydanticCustomError("argument", "no printable text", {})
    return value


def _pointer(value: str) -> str:
    """RFC 6901, or a glob: `~` only as a part of `~0` and `~1`."""
    if not value.startswith("/") or re.search("~(?![01])", value):
        raise PydanticCustomError("pointer", "no JSON Pointer", {})
    return _name(value)


def _reducer(value: str) -> str:
    """A built-in name in another spelling is a slip; every other name may be a package's."""
    meant = {_spelling(name): name for name in sorted(reducer.KNOWN)}.get(_spelling(value), value)
    if meant != value:
        found = f'"{value}", nearly a reducer\'s name'
        fix = f'"{meant}" (did you mean that?)'
        raise PydanticCustomError("reducer", "nearly", {"found": found, "fix": fix})
    return _name(value)


def _spelling(name: str) -> str:
    """Return what is left of a name without case, separators and repeated letters."""
    return re.sub(r"(.)\1+", r"\1", re.sub(r"[\W_]", "", name.casefold()))


def _signal_type(value: str) -> str:
    known = [kind.value for kind in SignalType]
    if value not in known:
        raise PydanticCustomError("type", "no signal type", {"fix": near(value, known)})
    return value


_TEXTS: dict[Text, Callable[[str], str]] = {
    Text.NAME: _name,
    Text.AGENT: _agent,
    Text.AGENT_OR_NONE: lambda value: value and _agent(value),
    Text.NAMESPACE: _namespace,
    Text.ARGUMENT: _argument,
    Text.POINTER: _pointer,
    Text.REDUCER: _reducer,
    Text.SIGNAL_TYPE: _signal_type,
}


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise PydanticCustomError("empty", "empty", {})
    return value


def _program(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not value[0].strip():
        raise PydanticCustomError("program", "no program", {"found": "no program's name"})
    return value


def _unique(value: tuple[str, ...]) -> tuple[str, ...]:
    for index, item in enumerate(value):
        if item in value[:index]:
            raise PydanticCustomError("twice", "twice", {"found": f'"{item}" twice'})
    return value


def _distinct(key: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a check that no two tables of a list have the same text in a field."""

    def check(value: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[str] = set()
        for index, item in enumerate(value):
            text = getattr(item, key)
            if text in seen:
                what = {"found": f'"{text}" once more', "index": index, "key": key}
                raise PydanticCustomError("twin", "twice", what)
            seen.add(text)
        return value

    return check


def _in_order(least: str) -> Callable[[int, ValidationInfo], int]:
    """Return a check that a number is not below another one of its table."""

    def check(value: int, info: ValidationInfo) -> int:
        bound = info.data.get(least)
        if bound is not None and value < bound:
            found = f"{value}, below {least} ({bound})"
            raise PydanticCustomError("order", "below the bound", {"found": found})
        return value

    return check
