"""`fabric mcp`: serve the fabric to models as tools."""

from __future__ import annotations

from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import click

from fabric.agents.request import session_of
from fabric.cli.connect import Target, on_target, open_store
from fabric.client.fabric import Fabric
from fabric.errors import ConfigError


@click.command()
@on_target("session", "agent", "stream")
@click.option("--http", "address", metavar="HOST:PORT", help="Serve HTTP at /mcp, not stdio.")
async def mcp(target: Target, address: str | None) -> None:
    """Serve the fabric as tools over the Model Context Protocol.

    \b
      fabric mcp                          stdio: a client starts it (`fabric init mcp`)
      fabric mcp --http 127.0.0.1:8765    streamable HTTP at /mcp, on this machine

    Tools: claim, release, wait, emit, report_finding, read_messages, status, why, ask_person.
    Resources: fabric://session, fabric://synthesis, fabric://timeline.

    The agent is FABRIC_AGENT, else that of the client's hooks, else one of its own, which ends
    with the client. Over HTTP a client names its agent in the header Fabric-Agent. There is no
    password: only addresses of this machine are served.
    """
    if find_spec("mcp") is None:
        raise ConfigError("the MCP server needs a package: pip install 'signal-fabric[mcp]'")
    from fabric.agents.tools.server import serving

    host, port = _address(address) if address else ("", 0)
    session = target.session or session_of(Path.cwd())
    async with (
        Fabric(open_store(target, "fabric-mcp"), target) as fabric,
        serving(fabric, session, agent=target.agent or "", stream=target.stream or "") as server,
    ):
        if address:
            await server.run_streamable_http_async(host=host, port=port)
        else:
            await server.run_stdio_async()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    try:
        is_here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if not port.isdecimal() or int(port) > 65_535:
        raise click.UsageError(f"--http: '{text}' is no HOST:PORT")
    if not is_here:
        raise ConfigError(
            f"--http: {host} can be reached by others, and there is no password: use 127.0.0.1, "
            "with a proxy that asks for one in front"
        )
    return host, int(port)
