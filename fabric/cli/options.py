"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutine
from typing import Any

import click

from fabric.cli.connect import run
from fabric.config.settings import Settings, flag, load, variable
from fabric.core.declaration import Field, Text, fields

#: Short flags.
_SHORT = {"session": ("-s",), "agent": ("-a",)}


def setting_option(field: Field) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option of a declared setting. Its value is checked with all settings, not here."""
    default = getattr(Settings(), field.name)
    text = field.hint.note(Text)
    metavar = field.hint.unit.upper() if text is None else "URL" if text is Text.URL else "TEXT"
    return click.option(
        *_SHORT.get(field.name, ()),
        flag(field.name),
        metavar=metavar,
        envvar=variable(field.name),
        show_envvar=True,
        help=field.sentence + ("" if default is None else f" Default: {default}."),
    )


#: `--json`: output for programs.
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one document, or one a line."
)


def log_id(context: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    """Check the value of an option that is a log id. Raises BadParameter."""
    from fabric.store.value import parse_id

    if value is None:
        return None
    try:
        parse_id(value.encode())
    except ValueError:
        raise click.BadParameter(f"'{value}' is not an id: 7, or 7-2") from None
    return value.encode()


#: `--since`: a log id to begin after.
since_option = click.option(
    "--since", metavar="ID", callback=log_id, help="Begin after this log id."
)


def on_target(*who: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that name the server, and those of `who`: session, agent, stream.

    The command receives the settings as its first argument, a Target. It may be a coroutine
    function: it then runs until it returns, or until SIGTERM.
    """
    names = (*who, "redis_url", "namespace")
    field_of = {field.name: field for field in fields(Settings)}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**given: Any) -> Any:
            target = load(**{name: given.pop(name) for name in names})
            result = function(target, **given)
            return run(result) if iscoroutine(result) else result

        decorated: Callable[..., Any] = command
        for name in reversed(names):
            decorated = setting_option(field_of[name])(decorated)
        return decorated

    return decorate
