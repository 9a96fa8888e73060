"""`fabric wait`: block a script until a dependency is there, or until agents have ended."""

from __future__ import annotations

import click
from click.core import ParameterSource

from fabric.cli.connect import Target, connected
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, note, print_lines
from fabric.client.wait import Resolved
from fabric.core.record import AgentRecord, AgentStatus
from fabric.errors import ConfigError
from fabric.ops.sent_signal import SentSignal
from fabric.ops.wait import ScriptAgent, until_ended
from fabric.view.text import plain


@click.command()
@click.argument("dependency", required=False)
@on_target("session", "agent", "stream")
@click.option("--all", "everyone", is_flag=True, help="Wait until every agent has ended.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds to wait.")
@click.option("--reason", help="Why you wait, for people that watch the session.")
@json_option
@click.pass_context
async def wait(
    context: click.Context,
    target: Target,
    dependency: str | None,
    everyone: bool,
    timeout: float | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Block until a dependency is resolved, a file is yours, or agents have ended.

    \b
      fabric wait schema-change    as agent FABRIC_AGENT: send BLOCKED, wait until an agent
                                   resolves it; print its location
      fabric wait QUESTION-ID      wait until the question is decided; print the decision
      fabric wait config.py        wait for your turn if another agent has the file; then it is
                                   yours until RELEASE (--json prints the token)
      fabric wait --agent QA       wait until QA has completed; exit code 1 if it has failed
      fabric wait --all            wait until all agents of the session have ended

    Exit code 7: the timeout passed first; the message says which agent you waited for. 5: the
    agents would wait for each other forever, and this wait was cancelled to prevent it. 1: the
    agent was told to stop. A wait for a dependency that ends without an answer is withdrawn.
    """
    named = context.get_parameter_source("agent") is ParameterSource.COMMANDLINE
    if everyone and (dependency or named):
        raise click.UsageError("--all takes neither a dependency nor --agent")
    if dependency is not None:
        answer = await _resolved(target, dependency, reason, timeout)
        _print_answer(dependency, answer, as_json=as_json)
        return
    if not everyone and not named:
        raise click.UsageError("name what to wait for: a dependency, --agent NAME, or --all")
    session, awaited = target.need("session"), None if everyone else target.agent
    if awaited == "":
        raise ConfigError("no agent: name the one to wait for (--agent)")
    async with connected(target) as connection:
        keys = connection.keys(session)[1]
        agents = await until_ended(connection.store, keys, awaited, timeout_s=timeout, note=note)
    if everyone or as_json:
        print_lines(_row(name, agent, as_json=as_json) for name, agent in agents.items())
    failed = {name: agent for name, agent in agents.items() if agent.status is AgentStatus.FAILED}
    for name, agent in failed.items():
        note(f"{name} has failed: {agent.error or 'no reason given'}")
    if failed:
        raise click.exceptions.Exit(1)


async def _resolved(
    target: Target, dependency: str, reason: str | None, timeout_s: float | None
) -> Resolved:
    session, agent = target.need("session"), target.need("agent")
    async with connected(target, founding=True) as connection:
        partition, keys = connection.keys(session)
        emitter = connection.emitter(partition.number)
        sent = SentSignal(connection.store, partition, emitter, keys.inbox(agent))
        reader = connection.session(session)
        script = ScriptAgent(reader, sent, agent, target.stream, target.heartbeat_ms, note)
        return await script.wait_for(dependency, reason=reason, timeout_s=timeout_s)


def _print_answer(dependency: str, answer: Resolved, *, as_json: bool) -> None:
    if as_json:
        found = {"dependency": dependency, "by": answer.by, "location": answer.location}
        more = {"token": answer.token, "decision": answer.decision}
        click.echo(json_line({**found, **{k: v for k, v in more.items() if v is not None}}))
    elif (said := answer.location if answer.decision is None else answer.decision) is not None:
        click.echo(said)
    if answer.token is not None:
        note(
            f"{dependency} is yours, under token {answer.token}, "
            f"until `fabric emit 'RELEASE({dependency})'`"
        )


def _row(name: str, agent: AgentRecord, *, as_json: bool) -> str:
    if as_json:
        return json_line({"agent": name, "status": agent.status, "error": agent.error})
    return plain(f"{name} {agent.status.value}")
