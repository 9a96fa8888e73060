"""The end of a run in the library: close_run, open_run, purge and export."""

import io
import json
from pathlib import Path

import pytest

from fabric import NotAllowedError, NotFoundError
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
