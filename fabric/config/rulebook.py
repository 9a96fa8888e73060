"""The rule file: `fabric.toml` → the core's rules, or what is wrong in it and how to put it right.

Settings stand at the top of the same file, rules in its tables; fabric.example.toml shows both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import structs
from pydantic import ValidationError

from fabric.config import check as checks
from fabric.config.fault import of_pydantic, stray
from fabric.config.merges import idle_merges, idle_same
from fabric.config.settings import config_files, sources
from fabric.config.toml_file import Document, Fault, FaultError, Keys, line_of, parse, read
from fabric.config.trust import request
from fabric.core.rules import Rules
from fabric.errors import ConfigError

#: Faults that are named for one file: more than this have one cause.
FAULTS_MAX = 100


class Found(NamedTuple):
    """The rules in force, the file that they are from (None: the defaults), and its lines."""

    rules: Rules
    path: Path | None = None
    lines: Mapping[Keys, int] = MappingProxyType({})
    #: All that the file says.
    values: Mapping[str, Any] = MappingProxyType({})
    #: What was taken out of the rules: programs that the user has not allowed.
    withheld: str = ""


def check(text: str) -> tuple[Rules | None, list[Fault]]:
    """Return the rules that a file's text holds, or None and all its faults, by line.

    Without tables of rules in it, the rules are the defaults. At most FAULTS_MAX faults are named.
    """
    return _checked(partial(parse, text.encode("utf-8", "surrogatepass")))[1:]


def check_file(path: Path) -> tuple[Rules | None, list[Fault]]:
    """Check the file at a path, as `check` does. Raises OSError when it cannot be read."""
    return _checked(partial(read, path))[1:]


def load(path: Path | None = None) -> Rules:
    """Return the rules of a file; of the first configuration file that has any; or the defaults.

    Raises ConfigError, with the first fault and how many more there are.
    """
    return find(path).rules


def find(path: Path | None = None) -> Found:
    """Return the rules as `load` does, and where they are from. Raises ConfigError as it does.

    The project's file counts before the user's. One file is used as a whole: rules are not merged.
    """
    if path is not None:
        return _sound(path)[0]
    for one in config_files():
        found, has_rules = _sound(one)
        if has_rules:
            return found
    return Found(Rules())


def in_force() -> Found:
    """Return the rules that a worker runs with. Raises ConfigError as `load` does.

    A project's file names programs: without the user's consent, the hook and the refiners are taken
    out, and no reducer of a package may be loaded. `withheld` says so.
    """
    found = find()
    asked = None if found.path is None else request(found.path, found.values)
    if asked is None or not asked.rules or asked.is_allowed():
        return found
    rules = structs.replace(found.rules, hook=(), refiners=())
    return found._replace(
        rules=rules,
        withheld=(
            f"{found.path} names programs that you have not allowed ({', '.join(asked.rules)}): "
            "running without them; `fabric trust` shows and allows them, for the next start"
        ),
    )


def misfits(path: Path) -> list[Fault]:
    """Return what does not fit together in a sound file, and merge rules that can do nothing.

    The former are heartbeats, silence, lease and patience.

    Settings that the file leaves out are those of the environment, or the defaults: workers and
    agents may get others by flags, so this stops nobody. Raises ConfigError.
    """
    (rules, _, lines, *_), _ = _sound(path)
    settings = checks.settings_of(sources({}, [path]))
    silence_ms, heartbeat_ms = rules.silence_ms_min, settings.heartbeat_ms
    lease_ms, patience_ms = settings.lease_ms, settings.emit_limit_ms
    named = ("liveness", "silence_ms_min"), ("heartbeat_ms",), ("lease_ms",), ("emit_limit_ms",)
    line = next((lines[key] for key in named if key in lines), 1)
    found = []
    if silence_ms <= lease_ms + heartbeat_ms:
        what = (
            f"{silence_ms}, not above lease_ms and heartbeat_ms together ({lease_ms} + "
            f"{heartbeat_ms}): agents at work may be declared dead"
        )
        fix = f"over {lease_ms + heartbeat_ms}, or lower lease_ms and heartbeat_ms"
        found.append(Fault(line, "liveness.silence_ms_min", what, fix))
    if silence_ms <= patience_ms:
        what = (
            f"{patience_ms}, not below liveness.silence_ms_min ({silence_ms}): an agent that is "
            "cut off may be declared dead while it still tries to send"
        )
        found.append(Fault(line, "emit_limit_ms", what, f"less than {silence_ms}, or a longer one"))
    return [*found, *idle_merges(rules.merges, lines), *idle_same(rules.same, lines)]


def _sound(path: Path) -> tuple[Found, bool]:
    """Return the rules of a file, and whether it has tables of rules at all."""
    try:
        document, rules, faults = _checked(partial(read, path))
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"the rule file {path} cannot be read: {why}") from None
    if rules is None:
        more = len(faults) - 1
        others = f" ({more} more: `fabric rules check` shows all)" if more else ""
        raise ConfigError(f"{path}:{faults[0].line}: {faults[0]}{others}")
    return Found(rules, path, document.lines, document.values), bool(_tables(document))


def _tables(document: Document) -> dict[str, object]:
    known = checks.rules_model().model_fields
    return {name: value for name, value in document.values.items() if name in known}


def _checked(reading: Callable[[], Document]) -> tuple[Document, Rules | None, list[Fault]]:
    try:
        document = reading()
    except FaultError as error:
        return Document({}, {}), None, [error.fault]
    tables, lines = _tables(document), document.lines
    settings = checks.settings_model().model_fields
    faults = [
        stray(name, value, line_of((name,), lines))
        for name, value in document.values.items()
        if name not in tables and name not in settings
    ][:FAULTS_MAX]
    found = None
    models = {checks.settings_model(): document.values, checks.rules_model(): tables}
    for model, values in models.items():
        try:
            found = model.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False)[:FAULTS_MAX]
            faults += [of_pydantic(detail, lines) for detail in details]
    if faults or found is None:
        return document, None, sorted(faults)[:FAULTS_MAX]
    return document, checks.rules_of(found), []
