"""Whether a path may be written: decided by the held claims, and by the token of the grant."""

from dataclasses import dataclass, field

import msgspec
import pytest

from fabric.client.session import Session
from fabric.core.record import BarrierRecord, BarrierState, ClaimRecord, ClaimState
from fabric.errors import HeldError, TamperedError
from fabric.ops.guard import Permission, check, check_all
from fabric.store.redis import RedisStore
from fabric.testing.store import MemoryStore
from tests.support.keyspace import session as named
from tests.support.servers import RunningServer

S = named("s")

#: 2025-01-02 03:04:05 UTC.
SINCE_MS = 1_735_787_045_000
WHEN = "2025-01-02T03:04:05Z"


def held(agent: str, token: int, *writes: str) -> ClaimRecord:
    return ClaimRecord(agent, ClaimState.HELD, [*writes], token=token, granted_ms=SINCE_MS)


def waiting(agent: str, *writes: str) -> ClaimRecord:
    return ClaimRecord(agent, ClaimState.WAITING, [*writes])


@dataclass
class Held:
    """A session in memory with claims as the orchestrator writes them."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore(lambda: SINCE_MS))

    def put(self, *claims: ClaimRecord) -> None:
        for number, claim in enumerate(claims):
            claim.asked = number
            self.store.data.hash(S.claims)[claim.id.encode()] = msgspec.json.encode(claim)

    async def ask(
        self, path: str, *, token: int | None = None, agent: str | None = None
    ) -> Permission:
        return await check(Session(self.store, S), path, token=token, agent=agent)


@pytest.fixture
def claims() -> Held:
    return Held()


async def test_a_path_that_nobody_holds_is_free(claims: Held) -> None:
    claims.put(held("B", 7, "b.py"), waiting("C", "a.py"))
    assert await claims.ask("a.py") == Permission("a.py")
    assert (await claims.ask("a.py", agent="A")).allowed


async def test_a_token_for_a_free_path_has_ended(claims: Held) -> None:
    claims.put(held("A", 7, "b.py"), waiting("A", "a.py"))
    verdict = await claims.ask("a.py", token=7, agent="A")
    assert verdict.refusal == (
        "a.py: nobody holds it now; your token 7 has ended: "
        "ask again with INTENT, and write after PROCEED"
    )
    with pytest.raises(HeldError, match="your token 7 has ended"):
        verdict.demand()


async def test_a_path_that_another_holds_is_refused(claims: Held) -> None:
    claims.put(held("B", 7, "docs/**", "src/**"))
    verdict = await claims.ask("src/a.py", agent="A")
    assert verdict.refusal == (
        f"src/a.py is held by B (claimed as src/**, token 7, since {WHEN}): "
        "ask with INTENT, and write after PROCEED"
    )
    assert not (await claims.ask("src/a.py")).allowed


async def test_the_holder_may_write(claims: Held) -> None:
    claims.put(held("A", 7, "src/**"))
    verdict = await claims.ask("src/a.py", token=7)
    assert [one.token for one in verdict.holdings] == [7]
    verdict.demand()
    assert (await claims.ask("src/a.py", agent="A")).allowed
    assert (await claims.ask("src/a.py", token=7, agent="A")).allowed


async def test_a_token_is_its_holders(claims: Held) -> None:
    claims.put(held("A", 7, "a.py"))
    assert (await claims.ask("a.py", token=7)).allowed
    assert (await claims.ask("a.py", token=7, agent="A/reviewer")).allowed
    verdict = await claims.ask("a.py", token=7, agent="B")
    assert verdict.refusal.startswith("a.py: token 7 is that of A, and you are B: ask again")


@pytest.mark.parametrize("token", [6, 8])
async def test_any_other_token_of_the_holder_is_refused(claims: Held, token: int) -> None:
    claims.put(held("A", 7, "a.py"))
    verdict = await claims.ask("a.py", token=token, agent="A")
    assert not verdict.allowed
    assert f"held by A (claimed as a.py, token 7, since {WHEN})" in verdict.refusal
    assert f"your token {token} has ended" in verdict.refusal


@pytest.mark.parametrize("agent", ["A", None])
async def test_an_outdated_token_is_refused(claims: Held, agent: str | None) -> None:
    claims.put(held("B", 9, "a.py"))
    verdict = await claims.ask("a.py", token=7, agent=agent)
    assert "held by B" in verdict.refusal
    assert "your token 7 is not the current one" in verdict.refusal


async def test_a_token_does_not_count_for_another_path(claims: Held) -> None:
    claims.put(held("A", 7, "a.py"), held("A", 8, "b.py"))
    assert not (await claims.ask("b.py", token=7, agent="A")).allowed


async def test_all_claims_on_a_path_must_be_the_callers(claims: Held) -> None:
    claims.put(held("A", 7, "src/a.py"), held("B", 8, "src/**"))
    for verdict in (await claims.ask("src/a.py", agent="A"), await claims.ask("src/a.py", token=7)):
        assert [one.agent for one in verdict.holdings] == ["A", "B"]
        assert verdict.refusal.startswith("src/a.py is held by B (claimed as src/**, token 8")


async def test_one_agent_may_hold_a_path_twice(claims: Held) -> None:
    claims.put(held("A", 7, "src/a.py"), held("A", 8, "src/**"))
    for token in (None, 7, 8):
        assert (await claims.ask("src/a.py", token=token, agent="A")).allowed
    assert not (await claims.ask("src/a.py", token=6, agent="A")).allowed


@pytest.mark.parametrize("spelt", ["./src/a.py", "src//a.py", "src/x/../a.py"])
async def test_a_path_is_the_same_however_it_is_spelt(claims: Held, spelt: str) -> None:
    claims.put(held("B", 7, "src/a.py"))
    assert not (await claims.ask(spelt, agent="A")).allowed


@pytest.mark.parametrize("claimed", ["app/[id]/page.tsx", "app/[[]id]/page.tsx", "app/*/page.tsx"])
async def test_brackets_in_a_file_name_are_literal(claims: Held, claimed: str) -> None:
    claims.put(held("B", 7, claimed))
    assert not (await claims.ask("app/[id]/page.tsx", agent="A")).allowed


async def test_several_paths_are_judged_at_one_moment(claims: Held) -> None:
    claims.put(held("B", 7, "b.py"))
    session = Session(claims.store, S)
    verdicts = await check_all(session, ["a.py", "b.py"], token=None, agent="A")
    assert [(one.path, one.allowed) for one in verdicts] == [("a.py", True), ("b.py", False)]


@pytest.mark.parametrize(
    ("state", "agent", "token", "expected"),
    [
        ("integrating", "A", None, False),
        ("integrating", "A", 7, False),
        ("integrating", None, None, False),
        ("integrating", "L", None, True),
        ("gathering", "A", None, True),
        ("over", "A", None, True),
    ],
)
async def test_nothing_may_change_while_a_leader_integrates(
    claims: Held, state: str, agent: str | None, token: int | None, expected: bool
) -> None:
    barrier = BarrierRecord(BarrierState(state), 1, "L")
    claims.store.data.hash(S.barriers)[b"I3"] = msgspec.json.encode(barrier)
    if token is not None:
        claims.put(held("A", token, "a.py"))
    verdict = await claims.ask("a.py", token=token, agent=agent)
    assert verdict.allowed is expected
    if not expected:
        assert "L integrates (I3): write after its RESUME" in verdict.refusal


async def test_a_time_that_no_calendar_has(claims: Held) -> None:
    claims.put(ClaimRecord("B", ClaimState.HELD, ["a.py"], token=7, granted_ms=10**16))
    assert "ms)" in (await claims.ask("a.py")).refusal


async def test_a_spoilt_record_allows_nothing(claims: Held) -> None:
    claims.store.data.hash(S.claims)[b"1:B"] = b"{}"
    with pytest.raises(TamperedError):
        await claims.ask("a.py", agent="A")


async def test_it_is_the_same_on_a_server(server: RunningServer) -> None:
    server.cli("HSET", S.claims, "0:B", msgspec.json.encode(held("B", 7, "src/**")))
    store = RedisStore(server.url)
    try:
        session = Session(store, S)
        assert (await check(session, "src/a.py", token=7, agent=None)).allowed
        assert not (await check(session, "src/a.py", token=6, agent=None)).allowed
        assert not (await check(session, "src/a.py", token=None, agent="A")).allowed
        assert (await check(session, "README.md", token=None, agent="A")).allowed
    finally:
        await store.close()
