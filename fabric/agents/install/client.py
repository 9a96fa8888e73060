"""Which files of which client get what: the hooks, the MCP server, git's own hook.

In a repository, hooks go into the client's own file there: Claude Code and Gemini CLI run those
unasked, Codex when the project and the hooks are trusted. Per user, Claude Code and Codex get a
plugin from the marketplace that comes with this package, rendered for this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.agents.command import follow_command, opencode_plugin
from fabric.agents.install import jsonc
from fabric.agents.install.change import Change, Journal, read
from fabric.agents.install.hooks import entries, fabric_command
from fabric.devserver.project import state_home, user_home
from fabric.errors import ConfigError, NotAllowedError
from fabric.ops.guard import HOOK, HOOK_LINE, hook_path

#: What can be installed, in the order in which it is.
PARTS = ("claude", "codex", "gemini", "opencode", "cursor", "mcp", "git")
#: Client → its program. What has none is used where its folder is.
PROGRAMS = {"claude": "claude", "codex": "codex", "gemini": "gemini", "opencode": "opencode"}
PROGRAMS["cursor"] = "cursor-agent"

#: The marketplace that comes with this package.
MARKETPLACE = Path(__file__).parents[1] / "marketplace"
NAME, VERSION = "signal-fabric", "0.1.0"
PLUGINS = {"claude": "fabric", "codex": "fabric-codex"}
#: Variables that Codex passes to an MCP server only if they are named.
CODEX_VARIABLES = [f"FABRIC_{one}" for one in ("AGENT", "SESSION", "STREAM", "RUN", "REDIS_URL")]

#: Makes the text with our part from the text without it.
Edit = Callable[[str], str]


@dataclass(frozen=True)
class Place:
    """Where to install: a project's folder, or None for the user."""

    project: Path | None

    @property
    def scope(self) -> str:
        """The name of the place in the journal."""
        return str(self.project) if self.project is not None else "user"

    def claude(self) -> Path:
        """Return Claude Code's settings; in a project, those that are not committed."""
        if self.project is not None:
            return self.project / ".claude" / "settings.local.json"
        return _home("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"

    def codex(self, name: str) -> Path:
        """Return a file of Codex's configuration."""
        top = self.project / ".codex" if self.project else _home("CODEX_HOME", ".codex")
        return top / name

    def gemini(self) -> Path:
        """Return Gemini CLI's settings."""
        return (self.project or user_home()) / ".gemini" / "settings.json"

    def opencode(self) -> Path:
        """Return the folder of OpenCode's plugins."""
        if self.project is not None:
            return self.project / ".opencode" / "plugin"
        return _home("XDG_CONFIG_HOME", ".config") / "opencode" / "plugin"


def _home(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or user_home() / default)


def installed() -> list[str]:
    """Return the clients that are on this machine."""
    return [name for name, program in PROGRAMS.items() if shutil.which(program)]


def for_mcp(parts: list[str]) -> list[str]:
    """Return the clients that get the MCP server: those on this machine, and those in `parts`."""
    there = {*installed(), *parts} - {"cursor"}
    return [name for name in PROGRAMS if name in there]


def marketplace() -> Path:
    """Return where the marketplace is rendered: its hooks name this Python."""
    return state_home() / "marketplace"


def edits(part: str, place: Place, clients: list[str]) -> Iterator[tuple[Path, Edit]]:
    """Yield the files of a part with what is inserted. `clients` get the MCP server."""
    if part in ("gemini", "cursor") or (part in ("claude", "codex") and place.project):
        path = {
            "claude": place.claude(),
            "codex": place.codex("hooks.json"),
            "gemini": place.gemini(),
            "cursor": (place.project or user_home()) / ".cursor" / "hooks.json",
        }[part]
        yield path, lambda text: _hooks(text, part)
    elif part == "claude":
        yield from _rendered(marketplace(), MARKETPLACE)
        yield place.claude(), _claude_plugin
    elif part == "codex":
        name = PLUGINS["codex"]
        yield from _rendered(marketplace(), MARKETPLACE)
        # Where `codex plugin add` puts a copy.
        cache = place.codex("plugins") / "cache" / NAME / name / VERSION
        yield from _rendered(cache, MARKETPLACE / "plugins" / name)
        yield place.codex("config.toml"), _codex_plugin
    elif part == "opencode":
        yield place.opencode() / "fabric.js", _opencode
    elif part == "mcp":
        yield from _mcp(place, clients)
    elif part == "git":
        if place.project is None:
            raise ConfigError("git hooks belong to a repository: run this without --user")
        yield hook_path(place.project), _git


def plan(
    parts: list[str], place: Place, journal: Journal, *, take_out: bool = False
) -> list[tuple[Change, list[str]]]:
    """Return the changes that put parts in, or take them out, each with all parts of its file.

    Of the parts that are taken out, a file that has no other is not among them: it is restored as
    a whole. Raises ConfigError for a file that cannot be read as what it is, NotAllowedError for
    one that cannot be read at all.
    """
    clients = for_mcp([] if take_out else parts)
    wanted = {path: journal.parts(path) for path in journal.paths()}
    known = {path: list(had) for path, had in wanted.items()}
    editors: dict[tuple[Path, str], Edit] = {}
    for part in PARTS:
        if (part in parts and not take_out) or any(part in had for had in known.values()):
            for path, edit in edits(part, place, clients):
                editors[path, part] = edit
                if part in parts and not take_out and part not in wanted.setdefault(path, []):
                    wanted[path].append(part)
    changes = []
    for path, had in wanted.items():
        left = [one for one in PARTS if one in had and not (take_out and one in parts)]
        if take_out and (not left or left == known[path]):
            continue
        wanted_edits = [(part, editors[path, part]) for part in left if (path, part) in editors]
        now = read(path)
        if not wanted_edits or (not take_out and _is_up_to_date(path, wanted_edits, now)):
            continue
        original, _ = journal.original(path)
        text = (original or b"").decode("utf-8", "surrogateescape")
        for _, edit in wanted_edits:
            text = _edited(path, edit, text)
        after = text.encode("utf-8", "surrogateescape")
        change = Change(path, now, after, 0o755 if "git" in left else 0o644)
        if not change.is_empty:
            changes.append((change, left))
    return changes


def _is_up_to_date(path: Path, wanted: list[tuple[str, Edit]], now: bytes | None) -> bool:
    """Whether a file has all that it is to have, and names this Python; there may be more."""
    text = (now or b"").decode("utf-8", "surrogateescape")
    is_ours = all(part != "mcp" or _quoted(sys.executable) in text for part, _ in wanted)
    return now is not None and is_ours and all(_edited(path, e, text) == text for _, e in wanted)


def _edited(path: Path, edit: Edit, text: str) -> str:
    try:
        return edit(text)
    except jsonc.JsonError as error:
        raise ConfigError(f"{path} is not JSON, {error}; mend it first") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}; mend it first") from None
    except NotAllowedError as error:
        raise NotAllowedError(f"{path}: {error}") from None
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]} is not what the client expects there") from None


def _hooks(text: str, harness: str) -> str:
    if harness == "cursor" and jsonc.parse(text).get("version") is None:
        text = jsonc.insert(text, ("version",), 1)
    for event, items in entries(harness).items():
        there = jsonc.parse(text).get("hooks", event)
        known = there.value if there is not None and isinstance(there.value, list) else []
        # A committed file may have them, and a user may have added flags.
        missing = [one for one in items if not jsonc.has(known, [one])]
        if missing:
            text = jsonc.insert(text, ("hooks", event), missing)
    return text


def _claude_plugin(text: str) -> str:
    source = {"source": {"source": "directory", "path": str(marketplace())}}
    for path, value in (
        (("extraKnownMarketplaces", NAME), source),
        (("enabledPlugins", f"{PLUGINS['claude']}@{NAME}"), True),
    ):
        if jsonc.parse(text).get(*path) is None:
            text = jsonc.insert(text, path, value)
    return text


def _codex_plugin(text: str) -> str:
    source = f'source_type = "local"\nsource = {_quoted(str(marketplace()))}\n'
    text = _table(text, ("marketplaces", NAME), f"[marketplaces.{NAME}]\n{source}")
    plugin = f"{PLUGINS['codex']}@{NAME}"
    return _table(text, ("plugins", plugin), f'[plugins."{plugin}"]\nenabled = true\n')


def _quoted(value: object) -> str:
    """Return a value as JSON and TOML both read it. TOML has no halves of a character."""
    return json.dumps(value, ensure_ascii=False)


def _table(text: str, path: tuple[str, ...], block: str) -> str:
    """Add a table at the end of a TOML text unless it has one of that name."""
    found: Any = tomllib.loads(text)
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if found is not None:
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    text += (gap + block).replace("\n", newline)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # `mcp_servers = {…}` is closed, say
        raise KeyError(path[0]) from None
    return text


def _opencode(text: str) -> str:
    plugin = opencode_plugin()
    head = plugin.partition("\n")[0]
    if text.strip() and head not in text:
        raise NotAllowedError("there is another plugin of this name: move it, and run this again")
    return plugin


def _rendered(to: Path, template: Path) -> Iterator[tuple[Path, Edit]]:
    """Yield the files of a template, rendered for this machine, and the hooks of each plugin."""
    for path in sorted(template.rglob("*")):
        if not path.is_file() or path.suffix == ".pyc":
            continue
        text = path.read_text().replace("__MONITOR__", json.dumps(follow_command("claude"))[1:-1])
        yield to / path.relative_to(template), _constant(text)
    for harness, name in PLUGINS.items():
        for folder in template.rglob(".claude-plugin"):
            if (folder.parent.name == name) and (folder / "plugin.json").exists():
                document = {"hooks": entries(harness)}
                at = to / folder.parent.relative_to(template) / "hooks" / "hooks.json"
                yield at, _constant(json.dumps(document, indent=2) + "\n")


def _constant(text: str) -> Edit:
    return lambda _: text


def _mcp(place: Place, clients: list[str]) -> Iterator[tuple[Path, Edit]]:
    """Yield where each client reads its MCP servers."""
    command = fabric_command("mcp")
    entry = {"command": command[0], "args": command[1:]}
    top = place.project or user_home()
    if "claude" in clients:
        path = top / (".mcp.json" if place.project else ".claude.json")
        # Else the model would have to look for the tools first.
        yield path, lambda text: _member(text, "mcpServers", {**entry, "alwaysLoad": True})
        if place.project is not None:
            yield (
                place.claude(),
                lambda text: jsonc.insert(text, ("enabledMcpjsonServers",), ["fabric"]),
            )
    if "gemini" in clients:
        yield place.gemini(), lambda text: _member(text, "mcpServers", entry)
    if "opencode" in clients:
        folder = place.project or place.opencode().parent
        local = {"type": "local", "command": command, "enabled": True}
        yield folder / "opencode.json", lambda text: _member(text, "mcp", local)
    if "codex" in clients:
        values = {**entry, "env_vars": CODEX_VARIABLES}
        lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in values.items())
        yield (
            place.codex("config.toml"),
            lambda text: _table(text, ("mcp_servers", "fabric"), f"[mcp_servers.fabric]\n{lines}"),
        )


def _member(text: str, under: str, value: Any) -> str:
    if jsonc.parse(text).get(under, "fabric") is not None:
        return text
    return jsonc.insert(text, (under, "fabric"), value)


def _git(text: str) -> str:
    if HOOK_LINE in text:
        return text
    if text.strip():
        raise NotAllowedError(f"there is another pre-commit hook: add this line: {HOOK_LINE}")
    return HOOK
