"""The peers' own code: a relay, its producer, and a receiver. Each runs where its packages are.

`python peer_program.py clear | produce COUNT | pace RATE COUNT | run relay|sink`. The environment
names the peer (BENCH_PEER), its server (BENCH_URL) and whether it is tuned (BENCH_TUNED). A peer
with a command of its own imports this module and takes `relay_app` or `sink_app`. A sink writes the
delays of BENCH_COUNT messages into BENCH_DELAYS, in ns. It imports the standard library and the
peer only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

PEER, URL = os.environ["BENCH_PEER"], os.environ["BENCH_URL"]
TUNED = bool(os.environ.get("BENCH_TUNED"))

#: Messages that a producer has under way.
PRODUCED_AT_ONCE = 100

_delays: list[int] = []


def document(number: int) -> dict[str, Any]:
    """Return a message of some 200 bytes, with the time of the machine's monotonic clock."""
    return {
        "session": "session-1",
        "type": "DEPENDENCY_RESOLVED",
        "emitter": "agent-01",
        "stamp": time.monotonic_ns(),
        "payload": {
            "dependency_id": f"artefact-{number:08d}",
            "output_location": "s3://builds/main/artefact/result.json",
        },
    }


def got(message: dict[str, Any]) -> None:
    """Note the delay of a message; write them all down after the last."""
    _delays.append(time.monotonic_ns() - message["stamp"])
    if len(_delays) == int(os.environ["BENCH_COUNT"]):
        Path(os.environ["BENCH_DELAYS"]).write_text(json.dumps(_delays))


def faststream() -> dict[str, Any]:
    """FastStream: a consumer group; tuned, in batches and without dependency injection."""
    import redis.asyncio
    from faststream import FastStream
    from faststream.redis import RedisBroker, StreamSub

    make: Any = RedisBroker
    stream: Any = StreamSub
    broker = make(URL, logger=None, apply_types=not TUNED)
    client = redis.asyncio.Redis.from_url(URL, socket_timeout=None)
    inbox = make(URL, logger=None)
    batch = {"batch": True, "max_records": 512} if TUNED else {}
    source = stream("ingress", group="relay", consumer="one", last_id="0", **batch)

    async def each(message: dict[str, Any]) -> None:
        await broker.publish(message, stream="outbox")

    async def many(messages: list[Any]) -> None:
        pipeline = client.pipeline(transaction=False)
        for message in messages:
            await broker.publish(message, stream="outbox", pipeline=pipeline)
        await pipeline.execute()

    broker.subscriber(stream=source)(many if TUNED else each)

    async def sink(message: dict[str, Any]) -> None:
        got(message)

    inbox.subscriber(stream=stream("outbox", last_id="0"))(sink)

    async def send(message: dict[str, Any]) -> None:
        await broker.publish(message, stream="ingress")

    return {
        "open": broker.connect,
        "send": send,
        "relay": FastStream(broker).run,
        "sink": FastStream(inbox).run,
    }


def taskiq() -> dict[str, Any]:
    """taskiq-redis on streams."""
    from taskiq_redis import RedisStreamBroker

    count = 512 if TUNED else 100
    broker, inbox = (
        RedisStreamBroker(url=URL, queue_name=name, consumer_id="0", xread_count=count)
        for name in ("ingress", "outbox")
    )

    @inbox.task(task_name="sink")
    async def sink(message: dict[str, Any]) -> None:
        got(message)

    @broker.task(task_name="relay")
    async def relay(message: dict[str, Any]) -> None:
        await sink.kiq(message)

    @broker.on_event("worker_startup")
    async def started(state: Any) -> None:
        await inbox.startup()

    return {"open": broker.startup, "send": relay.kiq, "relay_app": broker, "sink_app": inbox}


def streaq() -> dict[str, Any]:
    """streaq on streams."""
    from contextlib import asynccontextmanager

    from streaq import Worker

    how: dict[str, Any] = {"redis_url": URL, "concurrency": 100 if TUNED else 16}
    inbox: Any = Worker(queue_name="outbox", **how)

    @asynccontextmanager
    async def life() -> Any:
        async with inbox:
            yield

    is_relay = "relay_app" in " ".join(sys.argv)
    worker: Any = Worker(queue_name="ingress", **how, **({"lifespan": life} if is_relay else {}))

    @inbox.task(ttl=0, silent=True)
    async def sink(message: dict[str, Any]) -> None:
        got(message)

    @worker.task(ttl=0, silent=True)
    async def relay(message: dict[str, Any]) -> None:
        await sink.enqueue(message)

    async def send(message: dict[str, Any]) -> None:
        await relay.enqueue(message)

    return {"open": worker.__aenter__, "send": send, "relay_app": worker, "sink_app": inbox}


def saq() -> dict[str, Any]:
    """saq; its own results are not kept."""
    from saq import Queue

    limit = 100 if TUNED else 10
    options: dict[str, Any] = {"max_concurrent_ops": limit} if TUNED else {}
    queue, inbox = (Queue.from_url(URL, name=name, **options) for name in ("ingress", "outbox"))

    async def relay(context: Any, *, message: dict[str, Any]) -> None:
        await inbox.enqueue("sink", message=message, ttl=-1)

    async def sink(context: Any, *, message: dict[str, Any]) -> None:
        got(message)

    async def send(message: dict[str, Any]) -> None:
        await queue.enqueue("relay", message=message, ttl=-1)

    return {
        "send": send,
        "relay_app": {"queue": queue, "functions": [("relay", relay)], "concurrency": limit},
        "sink_app": {"queue": inbox, "functions": [("sink", sink)], "concurrency": limit},
    }


def arq() -> dict[str, Any]:
    """arq; its own results are not kept. It polls."""
    from arq import create_pool
    from arq.connections import RedisSettings
    from arq.worker import func

    server = RedisSettings.from_dsn(URL)
    pool: Any = None

    async def opened() -> None:
        nonlocal pool
        pool = await create_pool(server)

    async def relay(context: Any, message: dict[str, Any]) -> None:
        await context["redis"].enqueue_job("sink", message, _queue_name="outbox")

    async def sink(context: Any, message: dict[str, Any]) -> None:
        got(message)

    async def send(message: dict[str, Any]) -> None:
        await pool.enqueue_job("relay", message, _queue_name="ingress")

    def app(name: str, function: Any) -> type:
        named = func(function, name=function.__name__)
        kept: dict[str, Any] = {"functions": [named], "queue_name": name, "keep_result": 0}
        kept |= {"redis_settings": server, "log_results": False}
        kept |= {"max_jobs": 100, "poll_delay": 0.01} if TUNED else {}
        return type("App", (), kept)

    logging.disable(logging.INFO)
    apps = {"relay_app": app("ingress", relay), "sink_app": app("outbox", sink)}
    return {"open": opened, "send": send, **apps}


def dramatiq() -> dict[str, Any]:
    """dramatiq with its default middleware."""
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker

    library.set_broker(RedisBroker(url=URL))

    @library.actor(queue_name="outbox")
    def sink(message: dict[str, Any]) -> None:
        got(message)

    @library.actor(queue_name="ingress")
    def relay(message: dict[str, Any]) -> None:
        sink.send(message)

    return {"send": relay.send}


def celery() -> dict[str, Any]:
    """Celery with late acknowledgements, as ours, and without results."""
    from celery import Celery

    app: Any = Celery("peer_program", broker=URL)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=128 if TUNED else 4,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="sink")
    def sink(message: dict[str, Any]) -> None:
        got(message)

    @app.task(name="relay")
    def relay(message: dict[str, Any]) -> None:
        sink.apply_async((message,), queue="outbox")

    def send(message: dict[str, Any]) -> None:
        relay.apply_async((message,), queue="ingress")

    return {"send": send, "relay_app": app, "sink_app": app}


def docket() -> dict[str, Any]:
    """pydocket, without records of what is over."""
    from docket import Docket, Worker

    first, second = (
        Docket(name=name, url=URL, execution_ttl=timedelta(0)) for name in ("ingress", "outbox")
    )

    async def sink(message: dict[str, Any]) -> None:
        got(message)

    async def relay(message: dict[str, Any]) -> None:
        await second.add(sink)(message)

    async def opened() -> None:
        for one in (first, second):
            await one.__aenter__()
            one.register(relay)
            one.register(sink)

    async def work(which: Docket) -> None:
        await opened()
        limit, pause = (100, timedelta(milliseconds=1)) if TUNED else (10, timedelta(seconds=0.25))
        async with Worker(which, concurrency=limit, minimum_check_interval=pause) as worker:
            await worker.run_forever()

    async def send(message: dict[str, Any]) -> None:
        await first.add(relay)(message)

    return {
        "open": opened,
        "send": send,
        "relay": lambda: work(first),
        "sink": lambda: work(second),
    }


def nats() -> dict[str, Any]:
    """NATS JetStream: a push subscription; tuned, a pull subscription in batches."""
    import nats as library
    from nats.errors import TimeoutError as NothingError

    stream: Any = None

    async def opened() -> None:
        nonlocal stream
        stream = (await library.connect(URL)).jetstream()
        for name in ("ingress", "outbox"):
            await stream.add_stream(name=name, subjects=[name], storage="memory")

    async def clear() -> None:
        await opened()
        for name in ("ingress", "outbox"):
            await stream.delete_stream(name)

    async def send(message: dict[str, Any]) -> None:
        await stream.publish("ingress", json.dumps(message).encode())

    async def each(message: Any) -> None:
        await stream.publish("outbox", message.data)
        await message.ack()

    async def relay() -> None:
        await opened()
        if not TUNED:
            await stream.subscribe("ingress", cb=each, manual_ack=True)
            await asyncio.Event().wait()
        pulled = await stream.pull_subscribe("ingress", durable="relay")
        while True:
            try:
                messages = await pulled.fetch(512, timeout=1)
            except NothingError:
                continue
            await asyncio.gather(*(stream.publish("outbox", one.data) for one in messages))
            for one in messages:
                await one.ack()

    async def take(message: Any) -> None:
        got(json.loads(message.data))
        await message.ack()

    async def sink() -> None:
        await opened()
        await stream.subscribe("outbox", cb=take, manual_ack=True)
        await asyncio.Event().wait()

    return {"open": opened, "clear": clear, "send": send, "relay": relay, "sink": sink}


MAKERS: dict[str, Callable[[], dict[str, Any]]] = {
    "FastStream": faststream,
    "taskiq-redis": taskiq,
    "streaq": streaq,
    "saq": saq,
    "arq": arq,
    "dramatiq": dramatiq,
    "Celery": celery,
    "pydocket": docket,
    "NATS JetStream": nats,
}

#: Peers that send with a blocking call.
BLOCKING = frozenset({"dramatiq", "Celery"})

made = MAKERS[PEER]()
relay_app, sink_app = made.get("relay_app"), made.get("sink_app")


async def produce(count: int, rate: float | None) -> None:
    """Send messages as quickly as possible, or at a steady rate by an absolute schedule."""
    if "open" in made:
        await made["open"]()
    send, start = made["send"], time.monotonic()
    if rate:
        for number in range(count):
            await asyncio.sleep(max(0, start + number / rate - time.monotonic()))
            await send(document(number))
        return
    for first in range(0, count, PRODUCED_AT_ONCE):
        numbers = range(first, min(count, first + PRODUCED_AT_ONCE))
        await asyncio.gather(*(send(document(number)) for number in numbers))


def produce_blocking(count: int, rate: float | None) -> None:
    """Do the same with a library whose calls block."""
    start = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0, start + number / rate - time.monotonic()))
        made["send"](document(number))


def main() -> int:
    """Produce, or run a relay or sink that has no command of its own."""
    match sys.argv[1:]:
        case ["run", which]:
            asyncio.run(made[which]())
        case ["clear"]:
            asyncio.run(made["clear"]())
        case [_, *rate, count]:
            paced = float(rate[0]) if rate else None
            if PEER in BLOCKING:
                produce_blocking(int(count), paced)
            else:
                asyncio.run(produce(int(count), paced))
    # Without closing: some libraries wait for connections that they no longer need.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
