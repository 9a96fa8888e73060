"""The options that commands share, and how a command asks for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from fabric.cli.connect import target_of

_OPTIONS = {
    "session": click.option(
        "-s", "--session", envvar="FABRIC_SESSION", show_envvar=True, help="The parallel run."
    ),
    "agent": click.option(
        "-a", "--agent", envvar="FABRIC_AGENT", show_envvar=True, help="Who speaks."
    ),
    "stream": click.option(
        "--stream", envvar="FABRIC_STREAM", show_envvar=True, help="The agent's line of work."
    ),
    "redis_url": click.option(
        "--redis-url",
        metavar="URL",
        envvar="FABRIC_REDIS_URL",
        show_envvar=True,
        help="Server: redis://, rediss://, unix://, redis+sentinel://host,…/service or "
        "redis+cluster://host,…; without one, this project's own.",
    ),
    "namespace": click.option(
        "--namespace",
        envvar="FABRIC_NAMESPACE",
        show_envvar=True,
        help="Begins the names of all keys; 'fabric' if you say nothing.",
    ),
}

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

    The command receives them as its first argument, a Target.
    """
    names = (*who, "redis_url", "namespace")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**given: Any) -> Any:
            target = target_of(**{name: given.pop(name) for name in names})
            return function(target, **given)

        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate
