"""The store in memory answers as a real server does, whatever programs and people do."""

import asyncio
from typing import Any

from hypothesis import given

from tests.store.backend import MemoryBackend, RedisBackend
from tests.store.history import Player, Step, histories
from tests.support.effort import examples


def test_memory_and_a_server_agree(real: RedisBackend) -> None:
    with asyncio.Runner() as runner:

        async def answers(steps: list[Step]) -> None:
            await real.flush()
            memory = MemoryBackend()
            players = [Player(memory, memory.open()), Player(real, store)]
            played: list[Any] = []
            for step in steps:
                mine, theirs = [await player.play(step) for player in players]
                played.append((step, theirs))
                assert mine == theirs, f"after {played}"
            mine, theirs = [await player.rest() for player in players]
            assert mine == theirs, f"after {played}"

        @examples(150)
        @given(histories)
        def agree(steps: list[Step]) -> None:
            runner.run(answers(steps))

        store = real.open()
        try:
            agree()
        finally:
            runner.run(real.close())
