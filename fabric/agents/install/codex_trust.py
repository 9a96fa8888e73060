"""Trusts the fabric's hooks in Codex as its own `/hooks` screen does, by its app server.

Codex runs no hook that nobody has trusted, in silence. The server tells the present hash of each
hook, and it is written back: no hash is computed here. Only at the user's express wish.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from fabric import __version__
from fabric.errors import PeerError

#: Seconds for Codex to answer all of it; that takes 90 ms.
ANSWER_S = 30.0

#: Part of the command line of each of our hooks.
_OURS = "hook.py"


class HookTrust(NamedTuple):
    """One hook of ours as Codex sees it."""

    event: str
    is_trusted: bool


def look(folder: Path, *, trust: bool = False) -> list[HookTrust]:
    """Return our hooks as Codex sees them in a folder; with `trust`, trust them first.

    Raises PeerError if Codex does not answer as expected.
    """
    calls: list[tuple[str, dict[str, Any]]] = [("hooks/list", {"cwds": [str(folder)]})]
    found = _hooks(_ask(folder, calls)[0])
    if trust:
        state = {
            one["key"]: {"trusted_hash": one["currentHash"]}
            for one in found
            if one["trustStatus"] in ("untrusted", "modified")
        }
        edit = {"keyPath": "hooks.state", "value": state, "mergeStrategy": "upsert"}
        if state:
            write = ("config/batchWrite", {"edits": [edit], "reloadUserConfig": True})
            found = _hooks(_ask(folder, [write, *calls])[1])
    names = [(str(one.get("eventName")), one["trustStatus"]) for one in found]
    return [HookTrust(name, status in ("trusted", "managed")) for name, status in names]


def _hooks(answer: Any) -> list[dict[str, Any]]:
    try:
        hooks = [hook for entry in answer["data"] for hook in entry["hooks"]]
        return [one for one in hooks if _OURS in str(one.get("command"))]
    except (KeyError, TypeError) as error:
        raise PeerError(f"codex: its list of hooks has another shape ({error!r})") from None


def _ask(folder: Path, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Make calls of Codex's app server; return their results."""
    client = {"name": "fabric-init", "title": "fabric init", "version": __version__}
    asked = [("initialize", {"clientInfo": client}), *calls]
    lines = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(asked)
    ]
    results: dict[int, Any] = {}
    try:
        with subprocess.Popen(
            ["codex", "app-server", "--stdio"],  # noqa: S607 - codex from PATH, as the user has it
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            for line in lines:
                server.stdin.write(json.dumps(line) + "\n")
                server.stdin.flush()
                number = int(str(line["id"]))
                while number not in results:
                    answer = server.stdout.readline()
                    if not answer:
                        raise PeerError(f"codex app-server ended at {line['method']}")
                    message = json.loads(answer)
                    if "method" not in message and isinstance(message.get("id"), int):
                        if "error" in message:
                            raise PeerError(f"codex: {line['method']}: {message['error']}")
                        results[message["id"]] = message.get("result")
                if number == 0:
                    server.stdin.write('{"jsonrpc": "2.0", "method": "initialized"}\n')
            server.stdin.close()
    except FileNotFoundError:
        raise PeerError("codex is not on PATH") from None
    except (OSError, ValueError) as error:
        raise PeerError(f"codex app-server does not answer: {error}") from error
    return [results[number] for number in range(1, len(lines))]
