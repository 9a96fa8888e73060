"""Running scripts as the server runs them, and reading their texts."""

import re
from typing import Any

from fabric.store import scripts
from tests.store.backend import RedisBackend

LEASE = "fabric:{0}:lease"
SIGNALS = "fabric:{0}:signals"
GROUP = "orchestrators"
TTL_MS = 60_000

#: A reply in the text of a script: {'word', …}.
REPLY = re.compile(r"\{'(\w+)'")


async def evaluate(real: RedisBackend, verb: str, keys: list[str], *arguments: Any) -> Any:
    """Run a script; return its reply, integers and bytes as they come."""
    return await real.call("EVAL", scripts.source(verb), len(keys), *keys, *arguments)


async def take(real: RedisBackend, owner: str = "one", nonce: str = "n1", seed: int = 1) -> Any:
    """Run acquire."""
    return await evaluate(
        real, "acquire", [LEASE, SIGNALS], owner, nonce, TTL_MS, seed, GROUP, "r1"
    )


async def field(real: RedisBackend, name: str) -> bytes:
    """A field of the lease."""
    found = await real.call("HGET", LEASE, name)
    assert isinstance(found, bytes), found
    return found


def header(verb: str) -> str:
    """The comment at the top of a script, which is its contract."""
    text, _, _ = scripts.source(verb).partition("\n\n")
    assert all(line.startswith("--") for line in text.splitlines())
    return text


def body(verb: str) -> str:
    """A script without its comments."""
    code = scripts.source(verb).removeprefix(header(verb))
    return re.sub(r"^\s*--.*$|\s--\s.*$", "", code, flags=re.MULTILINE)


def calls(verb: str) -> list[list[str]]:
    """The arguments, as written, of every redis.call and redis.pcall."""
    text, found = body(verb), []
    for match in re.finditer(r"redis\.p?call\(", text):
        depth, argument, arguments = 1, "", []
        for character in text[match.end() :]:
            depth += (character in "([{") - (character in ")]}")
            if depth == 0:
                break
            if character == "," and depth == 1:
                arguments.append(argument.strip())
                argument = ""
            else:
                argument += character
        found.append([*arguments, argument.strip()])
    return found
