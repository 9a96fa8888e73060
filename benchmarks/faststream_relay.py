"""`python -m benchmarks.faststream_relay`: FastStream's fastest relay, and its own producer.

Of FastStream's ways to relay a Redis stream, this one measured fastest: a batch subscriber in a
consumer group, no dependency injection, and a publisher that writes a whole batch into one pipeline
of redis-py. For each message it reads, it writes one message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import workload
from benchmarks.connection import BenchmarkError

SOURCE, TARGET = "ingress", "outbox"
GROUP = "relay"

#: Messages that are read and published at a time. Larger batches gain nothing.
BATCH = 512

#: Messages that the producer sends in one pipeline.
PIPELINE_MAX = 500


def installed() -> None:
    """Raise BenchmarkError when FastStream cannot be imported."""
    try:
        import faststream.redis  # noqa: F401 - whether it is there is what is asked
    except ImportError as error:
        raise BenchmarkError(f"no FastStream here ({error}): run scripts/install bench") from None


def _broker(make: Any, url: str, **options: Any) -> Any:
    """Return a broker without logging; its annotations lack parameters that it documents."""
    return make(url, logger=None, **options)


async def relay(url: str) -> None:
    """Relay until ended by a signal."""
    import redis.asyncio
    from faststream.redis import RedisBroker, StreamSub

    broker = _broker(RedisBroker, url, apply_types=False)
    # Without redis-py's timeout for each reply, which costs 3 µs a message.
    client = redis.asyncio.Redis.from_url(url, socket_timeout=None)

    async def forward(messages: list[Any]) -> None:
        pipeline = client.pipeline(transaction=False)
        for message in messages:
            await broker.publish(message, stream=TARGET, pipeline=pipeline)
        await pipeline.execute()

    source = StreamSub(
        SOURCE, group=GROUP, consumer="one", last_id="0", batch=True, max_records=BATCH
    )
    broker.subscriber(stream=source)(forward)
    async with broker:
        await broker.start()
        await asyncio.Event().wait()


async def produce(url: str, database: int, messages: Iterator[dict[str, Any]]) -> None:
    """Publish messages into a database's source stream in FastStream's format."""
    import redis.asyncio
    from faststream.redis import RedisBroker

    client = redis.asyncio.Redis.from_url(url, db=database)
    broker = _broker(RedisBroker, url)
    async with broker:
        pipeline = client.pipeline(transaction=False)
        for number, message in enumerate(messages, 1):
            await broker.publish(message, stream=SOURCE, pipeline=pipeline)
            if number % PIPELINE_MAX == 0:
                await pipeline.execute()
        await pipeline.execute()
    await client.aclose()


def messages(name: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield a workload as documents with the same content."""
    for fields in workload.entries(name, count):
        pairs = iter(fields)
        document: dict[str, Any] = {
            field.decode(): value.decode() for field, value in zip(pairs, pairs, strict=True)
        }
        document["payload"] = json.loads(document["payload"])
        yield document


def main() -> int:
    """Relay, or produce and exit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faststream_relay")
    parser.add_argument("--url", required=True)
    parser.add_argument("--produce", type=int, metavar="COUNT")
    parser.add_argument("--document", help="produce this JSON document, once")
    parser.add_argument("--database", type=int, default=0)
    parser.add_argument("--workload", choices=workload.NAMES, default="resolved")
    flags = parser.parse_args()
    if flags.document is not None:
        document = iter([json.loads(flags.document)])
        asyncio.run(produce(flags.url, flags.database, document))
    elif flags.produce is not None:
        asyncio.run(produce(flags.url, flags.database, messages(flags.workload, flags.produce)))
    else:
        asyncio.run(relay(flags.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
