"""The checks of what a person writes: pydantic models, made from the declarations.

A list becomes a tuple, a table of a list the core's struct: what passes is what the core takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache, partial
from operator import attrgetter
from typing import Annotated, Any, get_origin

from msgspec import NODEFAULT, Struct, structs
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError, create_model
from pydantic import Field as Checked
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fabric.config.fault import near, of_pydantic
from fabric.config.settings import Secret, Settings, Source, namespace_fault
from fabric.core.declaration import ARGUMENT_CHARS_MAX, Field, Hint, Items, Number, Text, fields
from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.rule_table import SAME_FIELDS
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.synthesis import merge
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
    defaults = structs.asdict(Rules())
    every = _fields(tables.pop(""), defaults)
    for name, table in tables.items():
        inner = _created(name, _STRICT, _fields(table, defaults))
        every[name] = (inner, Checked(default_factory=inner))
    return _created("rules", _STRICT, every)


def rules_of(checked: BaseModel) -> Rules:
    """Return what a checked file says, as the core takes it."""
    values: dict[str, Any] = {}
    for field in fields(Rules):
        value: Any = attrgetter(field.key)(checked)
        values[field.name] = getattr(Rules(), field.name) | value if field.declared.added else value
    return Rules(**values)


@cache
def settings_model() -> type[BaseModel]:
    """Return the model of settings."""
    return _created("settings", _LAX, _fields(fields(Settings), vars(Settings())))


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


def _fields(declared: Iterable[Field], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return pydantic's fields of declared ones."""
    found = {}
    for field in declared:
        bound = field.declared.not_below
        kind = _type(field.hint)
        if bound:
            kind = Annotated[kind, AfterValidator(partial(_in_order, bound))]
        # A lower bound above the default is as wrong as one above a given value.
        checked = Checked(defaults.get(field.name, ...), validate_default=bool(bound))
        found[field.key.rpartition(".")[2]] = (kind, checked)
    return found


def _type(hint: Hint) -> Any:
    kind: Any = hint.kind
    checks: list[Any] = []
    for note in hint.notes:
        if isinstance(note, Number):
            checks.append(Checked(ge=note.ge, le=note.le))
        elif isinstance(note, Text) and note in _TEXTS:
            checks.append(AfterValidator(_TEXTS[note]))
        elif isinstance(note, Items):
            checks += [Checked(max_length=note.max), AfterValidator(partial(_items, note))]
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
    elif issubclass(kind, Struct):  # of a list of tables
        known = {
            one.name: one.default if one.default is not NODEFAULT else one.default_factory()
            for one in structs.fields(kind)
            if not one.required
        }
        checks = [AfterValidator(lambda checked: hint.kind(**dict(checked)))]
        kind = _created(kind.__name__, _STRICT, _fields(fields(kind), known))
    return Annotated[kind, *checks] if checks else kind


def _hidden(value: SecretStr) -> Secret | None:
    return Secret(value.get_secret_value()) if value else None


def _is_name(value: str) -> bool:
    return 1 <= len(value) <= NAME_CHARS_MAX and value.isprintable() and value == value.strip()


def _is_pointer(value: str) -> bool:
    """RFC 6901, or a glob: `~` only as a part of `~0` and `~1`."""
    return value.startswith("/") and not re.search("~(?![01])", value) and _is_name(value)


def _if(is_right: Callable[[str], object]) -> Callable[[str], str]:
    """Return a check of a text."""

    def check(value: str) -> str:
        if not is_right(value):
            raise PydanticCustomError("text", "not such a text", {})
        return value

    return check


def _reducer(value: str) -> str:
    """A built-in name in another spelling is a slip; every other name may be a package's."""
    meant = {_spelling(name): name for name in sorted(merge.KNOWN)}.get(_spelling(value), value)
    if meant != value:
        found = f'"{value}", nearly a reducer\'s name'
        fix = f'"{meant}" (did you mean that?)'
        raise PydanticCustomError("reducer", "nearly", {"found": found, "fix": fix})
    return _if(_is_name)(value)


def _spelling(name: str) -> str:
    """Return what is left of a name without case, separators and repeated letters."""
    return re.sub(r"(.)\1+", r"\1", re.sub(r"[\W_]", "", name.casefold()))


def _signal_type(value: str) -> str:
    if value not in [*SignalType]:
        raise PydanticCustomError("type", "no signal type", {"fix": near(value, [*SignalType])})
    return value


def _is_field(value: str) -> bool:
    """Whether findings may share it: a field of all findings, or a member of `data`."""
    return value in SAME_FIELDS or (value.startswith("data.") and _is_name(value))


_TEXTS: dict[Text, Callable[[str], str]] = {
    Text.NAME: _if(_is_name),
    Text.AGENT: _if(lambda value: value != "*" and _is_name(value)),
    Text.AGENT_OR_NONE: _if(lambda value: value != "*" and (not value or _is_name(value))),
    Text.NAME_OR_NONE: _if(lambda value: not value or _is_name(value)),
    Text.NAMESPACE: _if(lambda value: namespace_fault(value) is None),
    Text.ARGUMENT: _if(lambda value: len(value) <= ARGUMENT_CHARS_MAX and value.isprintable()),
    Text.POINTER: _if(_is_pointer),
    Text.REDUCER: _reducer,
    Text.SIGNAL_TYPE: _signal_type,
    Text.FIELD: _if(_is_field),
}


def _items(items: Items, value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Check a list that is not too long."""
    # Pydantic's own lower bound would count a wrong item as a missing one.
    if len(value) < items.min:
        raise PydanticCustomError("empty", "empty", {})
    seen: set[Any] = set()
    for index, item in enumerate(value if items.unique or items.distinct else ()):
        name = getattr(item, items.distinct) if items.distinct else item
        if name in seen:
            place = {"index": index, "key": items.distinct} if items.distinct else {}
            name = ", ".join(name) if isinstance(name, tuple) else name
            found = f'"{name}" {"once more" if items.distinct else "twice"}'
            raise PydanticCustomError("twice", "twice", {"found": found, **place})
        seen.add(name)
    if items.program and value and not value[0].strip():
        raise PydanticCustomError("program", "no program", {"found": "no program's name"})
    return value


def _in_order(least: str, value: int, info: ValidationInfo) -> int:
    """Check that a number is not below another one of its table."""
    bound = info.data.get(least)
    if bound is not None and value < bound:
        found = f"{value}, below {least} ({bound})"
        raise PydanticCustomError("order", "below the bound", {"found": found})
    return value
