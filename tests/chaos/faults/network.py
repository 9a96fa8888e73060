"""Faults of the network: requests and replies of workers or agents are lost, late or repeated."""

from collections.abc import Callable, Iterator

from tests.chaos.context import Context, Fault
from tests.chaos.deployment import Standalone
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault as Loss
from tests.support.proxy_fault import Match, command, script

#: Most requests that one fault hits.
STRUCK_MAX = 4


def _proxies(context: Context) -> tuple[Proxy, Proxy]:
    assert isinstance(context.deployment, Standalone)
    return context.deployment.workers, context.deployment.agents


def cut_all(context: Context) -> Iterator[str]:
    """Cut every connection at once."""
    context.tally.cut += sum(proxy.cut_all() for proxy in _proxies(context))
    yield "connections cut"


def refuse(context: Context) -> Iterator[str]:
    """Refuse every connection for a while."""
    proxies = _proxies(context)
    context.tally.cut += sum(proxy.cut_all() for proxy in proxies)
    for proxy in proxies:
        proxy.refuse()
    try:
        context.last(0.5, 3)
    finally:
        for proxy in proxies:
            proxy.accept()
    yield "connections refused"


def _loses(loss: Loss, match: Callable[[], Match], *, agents: bool, seconds: float) -> Fault:
    """Return a fault that hits some of the requests that match."""
    whose = "agents" if agents else "workers"

    def fault(context: Context) -> Iterator[str]:
        proxy = _proxies(context)[agents]
        times = context.chance.randint(1, STRUCK_MAX)
        rule = proxy.fault(loss, match(), times=times)
        try:
            context.last(seconds / 3, seconds)
        finally:
            proxy.lift(rule)
        if loss in (Loss.CUT_REPLY, Loss.CUT_REQUEST, Loss.LATE_REQUEST):
            context.tally.cut += rule.struck
        yield f"{loss.value} ({whose})"

    return fault


def _any_of(*verbs: str) -> Callable[[], Match]:
    def match() -> Match:
        matches = [script(verb) for verb in verbs]
        return lambda request: any(one(request) for one in matches)

    return match


_COMMITS = _any_of("commit", "acquire", "renew")
_EMITS = _any_of("emit", "enroll")

#: Name → fault of workers' requests. A client notices a swallowed reply after its own time-out.
WORKERS: dict[str, Fault] = {
    "cut replies": _loses(Loss.CUT_REPLY, _COMMITS, agents=False, seconds=1),
    "swallow replies": _loses(Loss.SWALLOW_REPLY, _COMMITS, agents=False, seconds=1),
    "delay replies": _loses(Loss.DELAY_REPLY, _COMMITS, agents=False, seconds=3),
    "cut requests": _loses(Loss.CUT_REQUEST, _COMMITS, agents=False, seconds=1),
    "late requests": _loses(Loss.LATE_REQUEST, _COMMITS, agents=False, seconds=3),
    "repeat requests": _loses(Loss.REPEAT_REQUEST, _COMMITS, agents=False, seconds=1),
}

#: The same for agents' requests, and for what they read.
AGENTS: dict[str, Fault] = {
    "cut agents' replies": _loses(Loss.CUT_REPLY, _EMITS, agents=True, seconds=1),
    "swallow agents' replies": _loses(Loss.SWALLOW_REPLY, _EMITS, agents=True, seconds=1),
    "delay agents' replies": _loses(Loss.DELAY_REPLY, _EMITS, agents=True, seconds=3),
    "cut agents' requests": _loses(Loss.CUT_REQUEST, _EMITS, agents=True, seconds=1),
    "late agents' requests": _loses(Loss.LATE_REQUEST, _EMITS, agents=True, seconds=3),
    "repeat agents' requests": _loses(Loss.REPEAT_REQUEST, _EMITS, agents=True, seconds=1),
    "swallow what agents read": _loses(
        Loss.SWALLOW_REPLY, lambda: command("XREAD"), agents=True, seconds=1
    ),
}
