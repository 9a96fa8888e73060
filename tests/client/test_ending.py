"""The end of a run in the library: close_run, open_run, purge and export."""

import gzip
import io
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest

from fabric import CallerError, NotAllowedError, NotFoundError
from fabric.client.export import Exported, export_session
from fabric.core.record import AgentStatus
from fabric.ops.comparison import Comparison
from fabric.store.file import FileStore
from fabric.testing import InProcessFabric, running, running_sync


def left(fabric: InProcessFabric) -> list[str]:
    return [key for key in fabric.memory.data.keys if "}:test:" in key]


async def test_a_run_is_closed_opened_exported_and_deleted(tmp_path: Path) -> None:
    async with running() as fabric:
        await fabric.emit([{"type": "STARTED", "emitter": name} for name in ("A", "B")])
        await fabric.emit([{"type": "COMPLETED", "emitter": "B"}])
        await fabric.settle()
        # That one is not known yet when the run is closed.
        await fabric.emit([{"type": "STARTED", "emitter": "D"}])
        assert await fabric.close_run(reason="enough", by="eva") == ["A", "D"]
        agents = await fabric.session().agents()
        assert agents["A"].status is AgentStatus.FAILED
        assert agents["A"].error == "eva has closed run 1 of test: enough"
        with pytest.raises(NotAllowedError, match="eva has closed run 1 of test"):
            await fabric.close_run()
        assert await fabric.open_run(expect=["C"], deadline_ms=60_000) == 2
        assert list(await fabric.session().roster()) == ["C"]
        with pytest.raises(NotAllowedError, match="run 2 of test is open"):
            await fabric.open_run()
        await fabric.settle()
        file = tmp_path / "test.ndjson.gz"
        exported = await fabric.export(str(file))
        assert exported.is_whole
        stream = io.BytesIO()
        assert await fabric.export(stream) == exported
        assert len(stream.getvalue().splitlines()) == exported.lines + 2
        stored = FileStore(file)
        assert (await Comparison(stored, stored.keys).run()).differences == []
        with pytest.raises(NotAllowedError, match="C is expected in test"):
            await fabric.purge()
        await fabric.close_run()
        await fabric.purge()
        assert left(fabric) == []
        for gone in (fabric.close_run(), fabric.purge(), fabric.export(io.BytesIO())):
            with pytest.raises(NotFoundError):
                await gone
        assert await fabric.open_run() == 1


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class Changing:
    """A store under which something happens to the session while an export reads its log."""

    def __init__(self, fabric: InProcessFabric, change: Callable[[], Awaitable[object]]) -> None:
        self._fabric, self._change = fabric, change
        self.times = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fabric.memory, name)

    async def entries(self, key: str, first: bytes, last: bytes, count: int) -> Any:
        found = await self._fabric.memory.entries(key, first, last, count)
        if self.times and key.endswith(":log") and first == b"-":
            self.times -= 1
            await self._change()
            await self._fabric.settle()
        return found

    async def export(self, to: Path | IO[bytes], times: int) -> Exported:
        self.times = times
        fabric = self._fabric
        names, keys = fabric.memory.namespace.partition(0), fabric.session().keys
        return await export_session(cast("Any", self), names, keys, to)


@pytest.mark.parametrize("what", ["log", "synthesis"])
async def test_a_file_says_whether_the_session_changed_while_it_was_written(
    tmp_path: Path, what: str
) -> None:
    async with running() as fabric:
        await fabric.emit([{"type": "STARTED", "emitter": "A"}])
        await fabric.settle()

        async def change() -> None:
            if what == "log":
                await fabric.emit([{"type": "PROGRESS", "emitter": "A", "payload": {"percent": 5}}])
            else:
                revision = fabric.memory.data.hash(fabric.session().keys.synthesis)
                revision[b"revision"] = b"%d" % (int(revision.get(b"revision", b"0")) + 1)

        store, file = Changing(fabric, change), tmp_path / "test.ndjson.gz"
        assert not (await store.export(file, 9)).is_whole
        assert not FileStore(file).is_whole
        # It is written again until nothing has changed.
        assert (await store.export(file, 1)).is_whole
        assert FileStore(file).is_whole
        # A stream cannot be written again, and says what it is.
        stream = io.BytesIO()
        assert not (await store.export(stream, 1)).is_whole
        file.with_suffix("").write_bytes(stream.getvalue())
        assert not FileStore(file.with_suffix("")).is_whole


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_what_is_deleted_while_it_is_written_leaves_no_file(
    tmp_path: Path, times: int
) -> None:
    async with running() as fabric:
        await fabric.emit([{"type": kind, "emitter": "A"} for kind in ("STARTED", "COMPLETED")])
        await fabric.settle()
        rounds = 0

        async def change() -> None:
            nonlocal rounds
            rounds += 1
            if rounds == times:
                await fabric.emit([{"type": "RUN_PURGED", "emitter": "eva"}])
            else:
                await fabric.emit([{"type": "RUN_CLOSED", "emitter": "eva"}])
                await fabric.emit([{"type": "RUN_OPENED", "emitter": "eva"}])
                await fabric.emit([{"type": "RUN_CLOSED", "emitter": "eva"}])

        with pytest.raises(NotFoundError):
            await Changing(fabric, change).export(tmp_path / "test.ndjson", times)
        assert files(tmp_path) == []


@pytest.mark.parametrize("place", ["gone/x", "folder", "full", "full.gz"])
async def test_where_nothing_can_be_written_the_place_is_named(tmp_path: Path, place: str) -> None:
    prepare(tmp_path)
    async with running() as fabric:
        await fabric.emit([{"type": "STARTED", "emitter": "A"}])
        await fabric.settle()
        with pytest.raises(NotAllowedError, match=f"{place} cannot be written: [A-Z]"):
            await fabric.export(tmp_path / place)


def prepare(folder: Path) -> None:
    (folder / "folder").mkdir()
    # A link: a program that puts a file in its place does no harm.
    for name in ("full", "full.gz"):
        (folder / name).symlink_to("/dev/full")


async def test_what_is_no_file_or_a_link_to_one_stays_what_it_is(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("target")
    async with running() as fabric:
        await fabric.emit([{"type": "STARTED", "emitter": "A"}])
        await fabric.settle()
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            exported = await fabric.export(pipe)
            assert len(os.read(reading, 65_536).splitlines()) == exported.lines + 2
        finally:
            os.close(reading)
        for _ in range(2):
            assert (await fabric.export(link)).is_whole
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert stat.S_ISLNK(os.lstat(link).st_mode)
    assert FileStore(tmp_path / "target").is_whole


HEAD = '{"format":"fabric-session/1","session":"x","prefix":"p","now_ms":1}'


@pytest.mark.parametrize(
    "lines",
    [
        ['{"key":"log","id":"2-0","fields":["a","b"]}', '{"key":"log","id":"1-0","fields":["a"]}'],
        ['{"key":"log","id":"zz","fields":["a","b"]}'],
        ['{"key":"log","field":"a","value":"b"}', '{"key":"log","id":"1-0","fields":[]}'],
        ['{"key":"queue:a","member":"A","score":"NaN"}'],
        ['{"key":"meta","field":"log","value":5}'],
        ['{"key":"log","id":"1-0","fields":[{"base64":"!"}]}'],
        ["[" * 100_000],
    ],
)
def test_a_file_with_nonsense_is_refused_with_its_line(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("\n".join([HEAD, *lines, f'{{"end":{len(lines)},"is_whole":true}}']) + "\n")
    with pytest.raises(CallerError, match=r"x\.ndjson:[23]: not a session's file"):
        FileStore(file)


@pytest.mark.parametrize("place", [0, 20, -20, -2])
def test_a_compressed_file_with_a_spoilt_byte_is_refused(tmp_path: Path, place: int) -> None:
    file = tmp_path / "x.ndjson.gz"
    lines = [HEAD, *(f'{{"key":"log","id":"{n}-0","fields":["a","b"]}}' for n in range(1, 50))]
    packed = bytearray(gzip.compress("\n".join([*lines, '{"end":49}', ""]).encode()))
    packed[place] ^= 0xFF
    file.write_bytes(packed)
    with pytest.raises(CallerError, match=r"x\.ndjson\.gz"):
        FileStore(file)


async def test_what_is_at_work_is_not_deleted() -> None:
    async with running() as fabric, fabric.agent("A"):
        await fabric.settle()
        with pytest.raises(NotAllowedError, match="A still work"):
            await fabric.purge()


def test_the_same_without_an_event_loop(tmp_path: Path) -> None:
    with running_sync() as fabric:
        with fabric.agent("A"):
            pass
        assert fabric.close_run() == []
        fabric.export(tmp_path / "test.ndjson")
        lines = (tmp_path / "test.ndjson").read_text().splitlines()
        assert json.loads(lines[0])["session"] == "test"
        fabric.purge()
        assert fabric.open_run() == 1
