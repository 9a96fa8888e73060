"""A quota that one agent reports holds all that share it until its time has come."""

import asyncio

from tests.client.fleet import in_process


async def test_agents_that_share_a_quota_pause_at_their_next_checkpoint_until_it_is_back() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A", quotas=["model"]) as first,
        fabric.agent("B", quotas=["model"]) as second,
        fabric.agent("C") as other,
    ):
        await fabric.settle()
        reporting = asyncio.create_task(first.rate_limited("model", 60_000))
        await fabric.settle()
        pausing = asyncio.create_task(second.checkpoint("half"))
        await other.checkpoint("half", timeout=20)
        await fabric.advance(59)
        assert (reporting.done(), pausing.done()) == (False, False)
        await fabric.advance(2)
        await asyncio.gather(reporting, pausing)
        # It can be used up again.
        again = asyncio.create_task(first.rate_limited("model", 5_000))
        await fabric.settle()
        assert not again.done()
        await fabric.advance(6)
        await again
