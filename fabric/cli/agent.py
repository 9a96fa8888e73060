"""`fabric inbox`, `fabric wait` and `fabric guard`: what an agent or its scripts ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fabric.cli.connect import Target, connected, json_option, on_target, since_option
from fabric.cli.output import hand_over, json_line, note, print_lines
from fabric.client.message import Message
from fabric.client.sent_signal import SentSignal
from fabric.core.record import AgentStatus
from fabric.devserver.path import workspace
from fabric.errors import ConfigError, FabricError, HeldError, NotAllowedError
from fabric.ops.guard import Permission, check_all, install_hook, resource_name, staged_paths
from fabric.ops.script import Inbox, ScriptAgent, describe_end, until_ended
from fabric.ops.unread import orders
from fabric.view.text import plain


@click.command()
@on_target("session", "agent")
@since_option
@click.option("--count", type=click.IntRange(min=1), help="Messages to read at most.")
@click.option("-f", "--follow", is_flag=True, help="Also print new messages, until Ctrl-C.")
@click.option("--peek", is_flag=True, help="Do not mark them as read.")
@json_option
async def inbox(
    target: Target, since: bytes | None, count: int | None, follow: bool, peek: bool, as_json: bool
) -> None:
    """Print the messages that have come for an agent since it last read its inbox.

    \b
      fabric inbox -a QA            unread messages, which then count as read
      fabric inbox -a QA --peek     the same, and they stay unread
      fabric inbox -a QA -f         unread messages, then each new one

    Messages are directives of the orchestrator and signals of other agents, to this agent or to
    everyone, in the order of the log. A message counts as read when it was written out and, through
    a pipe, taken: `| head -1` leaves the others unread. With --since, nothing is marked as read.

    --follow ends when the agent has ended: nothing more comes until it starts again. Exit code 4:
    it was declared dead. 3: the session is gone.
    """
    session, agent = target.need("session"), target.need("agent")
    line = message_json if as_json else message_line
    async with connected(target, waits=follow, patience_s=None) as connection:
        reader = Inbox(connection.store, connection.keys(session)[1], agent)
        place = [since, since] if since is not None else await reader.place()
        async for messages, reached in reader.pages(place, follow=follow, limit=count):
            is_any = False
            try:
                for message in messages:
                    await hand_over(line(message))
                    place[message.to_everyone], is_any = message.id.encode(), True
                place = reached
            finally:
                if is_any and not peek and since is None:
                    await reader.remember(place)
    if reader.ended is not None:
        said = f"{describe_end(agent, reader.ended)}; nothing more comes until it starts again"
        if reader.ended.status is AgentStatus.DEAD:
            raise NotAllowedError(said)
        note(said)


def message_line(message: Message) -> str:
    """Return a message as a line for a person."""
    to = " to everyone" if message.to_everyone else ""
    head = f"{message.id:<8} {message.type:<20} from {message.sender}{to}"
    return plain(f"{head}  {json_line(message.payload)}")


def message_json(message: Message) -> str:
    """Return a message as a line of JSON."""
    head = {"id": message.id, "type": message.type, "from": message.sender}
    more = {"stream": message.stream, "cause": message.cause, "payload": message.payload}
    return json_line({**head, **more, "to_everyone": message.to_everyone})


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
      fabric wait --all            wait until all agents of the session have ended: those that
                                   `fabric open --expect` names, or without a roster all that have
                                   come, if none starts within a second (runs.settle_ms)

    Exit code 7: the timeout passed first; the message says which agent you waited for. 5: the
    agents would wait for each other forever, and this wait was cancelled to prevent it. 1: the
    agent was told to stop, an expected one has not come in time, all producers have failed, or a
    person has ended the wait. 4: no answer can come any more, because your agent has ended, was
    declared dead, has started again or has withdrawn the wait. 3: the session is gone.

    A wait that ends without an answer is withdrawn, however the command is stopped: Ctrl-C, a
    signal, a closed output, the end of its parent process (unless it runs under nohup).
    """
    named = context.get_parameter_source("agent") is ParameterSource.COMMANDLINE
    if everyone and (dependency or named):
        raise click.UsageError("--all takes neither a dependency nor --agent")
    if dependency is not None:
        await _wait_for(target, dependency, reason, timeout, as_json=as_json)
        return
    if not everyone and not named:
        raise click.UsageError("name what to wait for: a dependency, --agent NAME, or --all")
    session, awaited = target.need("session"), None if everyone else target.agent
    if awaited == "":
        raise ConfigError("no agent: name the one to wait for (--agent)")
    async with connected(target, waits=True, patience_s=timeout) as connection:
        keys = connection.keys(session)[1]
        ended = await until_ended(connection.store, keys, awaited, timeout_s=timeout, note=note)
    for name, agent in ended.agents.items():
        if as_json:
            click.echo(json_line({"agent": name, "status": agent.status, "error": agent.error}))
        elif everyone:
            click.echo(plain(f"{name} {agent.status.value}"))
    for name in ended.absent:
        if as_json:
            click.echo(json_line({"agent": name, "status": "absent", "error": ""}))
        note(f"{name} was expected, and has not come")
    failed = [one for one in ended.agents.items() if one[1].status is not AgentStatus.COMPLETED]
    for name, agent in failed:
        note(describe_end(name, agent))
    if failed or ended.absent:
        raise click.exceptions.Exit(1)


async def _wait_for(
    target: Target, dependency: str, reason: str | None, timeout_s: float | None, *, as_json: bool
) -> None:
    session, agent = target.need("session"), target.need("agent")
    async with connected(target, founding=True, waits=True, patience_s=timeout_s) as connection:
        partition, keys = connection.keys(session)
        emitter = connection.emitter(partition.number)
        sent = SentSignal(connection.store, partition, emitter, keys.inbox(agent))
        reader = connection.session(session)
        script = ScriptAgent(reader, sent, agent, target.stream, target.heartbeat_ms, note)
        answer = await script.wait_for(dependency, reason=reason, timeout_s=timeout_s)
        try:
            if as_json:
                found = {"dependency": dependency, "by": answer.by, "location": answer.location}
                more = {"token": answer.token, "decision": answer.decision}
                click.echo(json_line(found | {k: v for k, v in more.items() if v is not None}))
            elif said := answer.location if answer.decision is None else answer.decision:
                click.echo(said)
        except OSError:  # nobody knows that the resource is the agent's now
            if answer.token is not None:
                await script.withdraw(dependency)
            raise
    if answer.token is not None:
        note(
            f"{dependency} is yours, under token {answer.token}, "
            f"until `fabric emit 'RELEASE({dependency})'`"
        )


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@on_target("session", "agent")
@click.option("--token", type=click.IntRange(min=1), metavar="N", help="From your PROCEED.")
@click.option("--staged", is_flag=True, help="Check what is staged in git.")
@click.option("--install", is_flag=True, help="Install the git pre-commit hook.")
@json_option
async def guard(
    target: Target,
    paths: tuple[str, ...],
    token: int | None,
    staged: bool,
    install: bool,
    as_json: bool,
) -> None:
    """Check whether you may write files now: exit code 0 if so, 5 if another agent holds one.

    \b
      fabric guard PATH --token N   the token must be the current one of a claim on PATH
      fabric guard PATH             PATH must be free, or held by you (FABRIC_AGENT)
      fabric guard --staged         check all files that are staged in git
      fabric guard --install        install the pre-commit hook that runs the line above

    Name a file from the root of the project, as agents do, wherever you are. An absolute path is
    taken relative to the root of the git repository, or else to the present folder.

    If the check cannot run, treat it as a refusal: exit code 6 when the server is unreachable, 2
    without a server or a session, 3 for a session in which nothing was ever said.
    """
    if (bool(paths), staged, install).count(True) != 1:
        raise click.UsageError("give one of PATH..., --staged and --install")
    if token is not None and not paths:
        raise click.UsageError("--token goes with PATH")
    if install:
        path, is_new = install_hook(Path.cwd())
        hook = _text(str(path))
        click.echo(json_line({"hook": hook, "written": is_new}) if as_json else hook)
        if not is_new and not as_json:
            note("the hook is already installed")
        return
    try:
        names = staged_paths(Path.cwd()) if staged else [*map(resource_name, paths)]
        # A commit that touches nothing needs no permission.
        found = await _permissions(target, names, token) if names else []
    except FabricError as error:
        if not staged:
            raise
        note(str(error))
        note("to commit without this check: git commit --no-verify")
        raise click.exceptions.Exit(error.exit_code) from None
    if as_json:
        print_lines(json_line(_permission(one)) for one in found)
    refused = [one.refusal for one in found if not one.allowed]
    for refusal in refused:
        note(refusal)
    if refused:
        raise click.exceptions.Exit(HeldError.exit_code)


async def _permissions(target: Target, paths: Sequence[str], token: int | None) -> list[Permission]:
    name = target.need("session")
    async with connected(target) as connection:
        session = connection.session(name)
        copy = target.workspace or workspace()
        found = await check_all(session, paths, token=token, agent=target.agent or None, copy=copy)
        if all(one.allowed and not one.holdings for one in found) and not await session.claims():
            # In a misspelt session everything would be free.
            await session.must_exist()
        if target.agent:
            unread = await orders(connection.store, session.keys, target.agent)
            for order in unread:
                note(str(order))
            if any(order.is_stop for order in unread):
                why = f"{target.agent} was told to stop, and has not read that: fabric inbox"
                found = [one if one.refusal else replace(one, refusal=why) for one in found]
        return found


def _permission(permission: Permission) -> dict[str, Any]:
    return {
        "path": _text(permission.path),
        "allowed": permission.allowed,
        "held": [asdict(holding) for holding in permission.holdings],
        "refusal": _text(permission.refusal),
    }


def _text(text: str) -> str:
    """Return a text that JSON and a terminal accept: the name of a file may be any bytes."""
    return os.fsencode(text).decode(errors="replace")
