"""`fabric orchestrator` and `fabric synthesizer` serve until they are told to stop."""

import signal

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("worker", "lease"), [("orchestrator", "lease"), ("synthesizer", "lease:synthesizers")]
)
def test_a_worker_serves_and_drains(
    quiet: Shell, server: RunningServer, worker: str, lease: str, number: signal.Signals
) -> None:
    name = quiet.variables["FABRIC_NAMESPACE"]
    flags = ("--partitions", "2", "--lease-ms", "60000", "--batch-signals-max", "8")
    process = quiet.start(worker, *flags, "--name", "me")
    keys = [f"{name}:{{{number}}}:{lease}" for number in (0, 1)]
    until(lambda: all(server.cli("HGET", key, "owner") == "me" for key in keys))
    assert server.cli("HGET", f"{name}:meta", "partitions") == "2"
    process.send_signal(number)
    done = end(process)
    assert (done.code, done.out) == (0, "")
    assert "draining" in done.err
    assert [server.cli("HGET", key, "owner") for key in keys] == ["", ""]


def test_a_flag_out_of_its_bounds_is_named(quiet: Shell) -> None:
    done = quiet.run("orchestrator", "--lease-ms", "1")
    assert (done.code, done.out) == (2, "")
    assert "setting lease_ms" in done.err
    assert "--lease-ms" in done.err
