"""What a project's file may do only with its user's consent (`fabric trust`).

A file in a checkout is written by whoever can commit to it. It must not run programs, nor send what
agents say to another server, for somebody who has only cloned it. Consent is for what would run,
named by a digest, and is kept with the project's state, outside of the checkout. When the file or a
program in the checkout changes, so does the digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

from fabric.config.settings import GUARDED, user_file
from fabric.core.synthesis.merge import BY_SOURCE, KNOWN
from fabric.devserver import repository
from fabric.devserver.project import Project, nearest
from fabric.errors import NotAllowedError

#: The variable with digests that a machine allows, with commas between them; or with `ALL`.
VARIABLE = "FABRIC_TRUST"
#: Allows all that any project's file asks for.
ALL = "all"


class Request(NamedTuple):
    """What a file asks for that needs consent."""

    path: Path
    #: Where the file has it → the value.
    asked: dict[str, Any]
    #: The hook's words that name files of the checkout → what the files hold, as a digest.
    programs: dict[str, str]

    @property
    def digest(self) -> str:
        """The name of all this, wherever the checkout is."""
        said = json.dumps([self.asked, self.programs], sort_keys=True, default=str)
        return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def rules(self) -> list[str]:
        """The rules that name programs."""
        return [name for name in self.asked if name not in GUARDED]

    def is_allowed(self) -> bool:
        """Return whether the user, or the machine, has allowed it."""
        allowed = os.environ.get(VARIABLE, "").replace(" ", "").split(",")
        if ALL in allowed or self.digest in allowed:
            return True
        project = self._project()
        return project.is_private() and (project.trusted / self.digest).is_file()

    def allow(self, shown: str) -> None:
        """Note that the user has allowed it, having seen `shown`. Raises NotAllowedError."""
        project = self._project()
        project.prepare()
        try:
            project.trusted.mkdir(mode=0o700, exist_ok=True)
            (project.trusted / self.digest).write_text(shown)
        except OSError as error:
            raise NotAllowedError(f"{project.trusted} cannot be written: {error}") from None

    def withdraw(self) -> None:
        """Allow nothing that the project asks for, now or earlier. Raises NotAllowedError."""
        trusted = self._project().trusted
        try:
            for path in trusted.iterdir() if trusted.is_dir() else ():
                path.unlink()
        except OSError as error:
            raise NotAllowedError(f"{trusted} cannot be emptied: {error}") from None

    def _project(self) -> Project:
        return Project(nearest(self.path.parent).root)


def request(path: Path, values: Mapping[str, Any]) -> Request | None:
    """Return what a file asks for, given its values; None when it needs no consent for that."""
    if is_own(path):
        return None
    asked: dict[str, Any] = {name: values[name] for name in GUARDED if values.get(name)}
    escalations, synthesis = _table(values, "escalations"), _table(values, "synthesis")
    asked["escalations.hook"] = hook = escalations.get("hook")
    asked["synthesis.refiners"] = synthesis.get("refiners")
    merges = synthesis.get("merges")
    named = [
        str(merge.get("reducer", BY_SOURCE))
        for merge in (merges if isinstance(merges, list) else [])
        if isinstance(merge, dict)
    ]
    asked["synthesis.merges"] = sorted(set(named) - KNOWN)
    asked = {name: value for name, value in asked.items() if value}
    if not asked:
        return None
    words = hook if isinstance(hook, list) else []
    return Request(path, asked, _programs(map(str, words)))


def is_own(path: Path) -> bool:
    """Return whether a configuration file is the user's own, and no project's.

    That is the one in the user's folder, and one that FABRIC_CONFIG names by an absolute path
    outside of the checkout.
    """
    if path == user_file():
        return True
    named = os.environ.get("FABRIC_CONFIG")
    if not named or not Path(named).is_absolute():
        return False
    try:
        place = nearest()
    except OSError:  # the working directory is gone
        return True
    is_checkout = repository.at(place.top) is not None
    return not (is_checkout and any(path.resolve().is_relative_to(one) for one in place[1:3]))


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name)
    return table if isinstance(table, dict) else {}


def _programs(words: Any) -> dict[str, str]:
    """Return digests of the files of the checkout among some words, as a process here sees them."""
    found: dict[str, str] = {}
    with suppress(OSError):  # the working directory is gone
        top = nearest().top
        for word in words:
            with suppress(OSError, ValueError):  # no file, or not to be read; a NUL
                path = Path(word).resolve()
                if path.is_relative_to(top) and path.is_file():
                    with path.open("rb") as file:
                        found[word] = file_digest(file, "sha256").hexdigest()
    return found
