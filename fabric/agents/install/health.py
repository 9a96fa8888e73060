"""What `fabric doctor` says of each coding agent: there, with hooks, trusted, last seen."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fabric.agents import hook
from fabric.agents.install import codex_trust
from fabric.agents.install.change import read
from fabric.agents.install.client import NAME, PLUGINS, PROGRAMS, Place, marketplace
from fabric.devserver.project import user_home
from fabric.doctor import Finding, Level
from fabric.errors import FabricError

#: Our plugin, as Claude Code's settings name it.
PLUGIN = f"{PLUGINS['claude']}@{NAME}"

#: A text in a configuration.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


def examine(project: Path) -> list[Finding]:
    """Return a finding for each client that is on this machine, or has our hooks."""
    seen = _seen()
    found = [_client(name, project, seen.get(name, {})) for name in PROGRAMS]
    return [one for one in found if one is not None]


def _seen() -> dict[str, Any]:
    """Return harness → its last event, as the agent daemon has noted it."""
    path = Path(os.fsdecode(hook.folder(dict(os.environb)))) / "seen.json"
    with suppress(OSError, ValueError):
        known = json.loads(path.read_bytes())
        return known if isinstance(known, dict) else {}
    return {}


def _client(name: str, project: Path, seen: dict[str, Any]) -> Finding | None:
    program = shutil.which(PROGRAMS[name])
    places = _hooks(name, project)
    if not places:
        if program is None:
            return None
        return Finding(name, Level.OK, f"{program}; no hooks here", f"fabric init {name}")
    where = f"hooks in {', '.join(str(path) for path, _ in places)}"
    if missing := next((one for _, gone in places for one in gone), ""):
        found = f"{where} call {missing}, which is not there"
        return Finding(name, Level.WARN, found, f"fabric init {name}, in each of these places")
    if program is None:
        found = f"{where}, but no {PROGRAMS[name]} on PATH"
        return Finding(name, Level.WARN, found, "fabric init --undo takes them out")
    level, advice = Level.OK, ""
    if refusal := _distrust(name, project, places):
        level, advice = Level.WARN, refusal
    if not seen:
        found = f"{where}; none has run yet"
        return Finding(name, level, found, advice or f"start {PROGRAMS[name]} here, with a prompt")
    ago = _ago(time.time() - float(seen.get("ms") or 0) / 1000)
    last = f"the last one was {seen.get('event')}, {ago} ago in {seen.get('folder')}"
    return Finding(name, level, f"{where}; {last} (session {seen.get('session')})", advice)


def _hooks(name: str, project: Path) -> list[tuple[Path, list[str]]]:
    """Return the files that have our hooks, each with the programs that they call and lack."""
    found = []
    for place in (Place(project), Place(None)):
        for path in _files(name, place):
            text = _text(path)
            calls = [*_commands(name, text), *_plugin_calls(name, text)]
            if calls:
                programs = dict.fromkeys(one for call in calls for one in call)
                found.append((path, [one for one in programs if not Path(one).exists()]))
    return found


def _commands(name: str, text: str) -> list[tuple[str, str]]:
    """Return what each of a client's hooks in a configuration calls: Python and our script."""
    found = []
    for quoted in _TEXT.findall(text):
        with suppress(ValueError, IndexError):
            words = shlex.split(json.loads(quoted)) if "hook.py" in quoted else []
            if words[1:3] == ["-S", "-E"] and words[3].endswith("hook.py") and words[4] == name:
                found.append((words[0], words[3]))
    return found


def _files(name: str, place: Place) -> list[Path]:
    """Return where a client's hooks may be, by `client.py`."""
    if name == "claude":
        return [place.claude()]
    if name == "codex":
        return [place.codex("hooks.json"), place.codex("config.toml")]
    if name == "gemini":
        return [place.gemini()]
    if name == "opencode":
        return [place.opencode() / "fabric.js"]
    return [(place.project or user_home()) / ".cursor" / "hooks.json"]


def _plugin_calls(name: str, text: str) -> list[tuple[str, str]]:
    """Return what the plugin calls that a configuration names; OpenCode's has words of its own."""
    if name == "opencode":
        words = re.search(r"COMMAND = (\[.*\])", text)
        with suppress(ValueError):
            known = json.loads(words[1]) if words else []
            return [(known[0], known[3])] if len(known) > 3 else []
        return []
    plugin = PLUGINS.get(name)
    if plugin is None or f"{plugin}@{NAME}" not in text:
        return []
    path = marketplace() / "plugins" / plugin / "hooks" / "hooks.json"
    return _commands(name, _text(path)) or [(str(path), str(path))]


def _distrust(name: str, project: Path, places: list[tuple[Path, list[str]]]) -> str:
    """Say what to do if the client does not run the hooks; "" if it does, as far as files tell."""
    if name == "claude":
        return _switched_off(
            project, is_plugin=all("hook.py" not in _text(one) for one, _ in places)
        )
    if name == "codex":
        with suppress(FabricError):
            hooks = codex_trust.look(project)
            if hooks and all(one.is_trusted for one in hooks):
                return ""
            if not hooks:
                return "Codex does not run them: trust this project in it first"
            return "Codex does not run them until you trust them: /hooks, or --trust-hooks of init"
        return "whether Codex trusts them is not known: type /hooks in it"
    if name == "gemini" and any(path.is_relative_to(project) for path, _ in places):
        with suppress(OSError, ValueError):
            known = json.loads((user_home() / ".gemini" / "trustedFolders.json").read_bytes())
            if any(
                value in ("TRUST_FOLDER", "TRUST_PARENT") and project.is_relative_to(folder)
                for folder, value in known.items()
            ):
                return ""
        return "Gemini CLI runs them only in a folder that you trust: it asks when you start it"
    return ""


def _switched_off(project: Path, *, is_plugin: bool) -> str:
    """Say which of Claude Code's settings switches our hooks off; "" if none does.

    `is_plugin`: all of them are the plugin's.
    """
    own, advice = project / ".claude", {"": "", PLUGIN: ""}
    # Each file goes before those above it.
    for path in (Place(None).claude(), own / "settings.json", own / "settings.local.json"):
        with suppress(ValueError):
            known = json.loads(_text(path) or "{}")
            known = known if isinstance(known, dict) else {}
            if isinstance(off := known.get("disableAllHooks"), bool):
                advice[""] = f"take `disableAllHooks` out of {path}" if off else ""
            plugins = known.get("enabledPlugins")
            on = plugins.get(PLUGIN) if isinstance(plugins, dict) and is_plugin else None
            if isinstance(on, bool):
                advice[PLUGIN] = "" if on else f"switch {PLUGIN} on in {path}"
    why = next(filter(None, advice.values()), "")
    return why and f"Claude Code does not run them: {why}"


def _text(path: Path) -> str:
    """Return what is in a file; "" if it cannot be read."""
    with suppress(FabricError):
        return (read(path) or b"").decode("utf-8", "replace")
    return ""


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
