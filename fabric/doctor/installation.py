"""What this machine has: the program called `fabric`, and the project's own server."""

from __future__ import annotations

import shutil
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

from fabric import devserver
from fabric.doctor.diagnosis import Finding, Level
from fabric.errors import FabricError

#: Bytes of a program that are looked at: an entry point's script has some 250.
LAUNCHER_BYTES: Final = 4_096

_OURS = "signal-fabric"


def program() -> Finding:
    """Whether `fabric` on PATH is ours: the remote-execution tool Fabric has the same name."""
    owners = {name.lower().replace("_", "-") for name in packages_distributions().get("fabric", ())}
    if owners - {_OURS}:
        return Finding(
            "program", Level.WARN,
            f"{', '.join(sorted(owners - {_OURS}))} is installed here too, and its package is also "
            "called fabric: the files of one lie over the other's",
            f"give {_OURS} an environment of its own",
        )  # fmt: skip
    path = shutil.which("fabric")
    if path is None:
        return Finding(
            "program", Level.OK, "no `fabric` on PATH; `python -m fabric.cli` is the same"
        )
    try:
        with Path(path).open("rb") as script:
            is_ours = b"fabric.cli" in script.read(LAUNCHER_BYTES)
    except OSError:
        is_ours = False
    if is_ours:
        return Finding("program", Level.OK, f"`fabric` is {path}")
    return Finding(
        "program", Level.WARN, f"`fabric` is {path}, which does not look like ours",
        f"call `{_OURS}`, which is the same as our `fabric`",
    )  # fmt: skip


def private_server(*, is_named: bool) -> Finding:
    """Whether the project's own server runs, and whether somebody uses it.

    `is_named`: a server is known already, so none has to be started.
    """
    check = "private server"
    found = devserver.find()
    if found is None and is_named:
        return Finding(
            check, Level.OK, "none runs for this project; FABRIC_REDIS_URL names another"
        )
    if found is None:
        try:
            path, origin = devserver.binary()
        except FabricError as error:
            return Finding(
                check, Level.WARN, "none runs, and `fabric up` has none to start", str(error)
            )
        return Finding(
            check, Level.OK, f"none runs; `fabric up` would start {path} (from {origin})"
        )
    where = f"{found.version} of {found.root} (pid {found.pid})"
    try:
        users = devserver.users(found.root)
    except OSError as error:
        return Finding(
            check, Level.UNKNOWN, f"{where}; who uses it is not known ({error.strerror})"
        )
    if users:
        return Finding(check, Level.OK, f"{where}, used by {', '.join(map(str, users))}")
    return Finding(
        check, Level.WARN, f"{where} runs, and no live process uses it",
        "left by `fabric demo --keep`, or by a process that was killed; `fabric up` takes it over, "
        "`fabric down` stops it, and its data stays",
    )  # fmt: skip
