"""What users print shows what it is, and no secret."""

from fabric import Fabric, Message, ResumePoint, SyncFabric
from fabric.client.grant import Grant
from tests.client.fleet import fleet
from tests.support.servers import RunningServer

SECRET_URL = "redis://user:hunter2@127.0.0.1:1"


async def test_connected_objects_show_themselves(server: RunningServer) -> None:
    async with fleet(server.url) as fabric:
        agent = fabric.agent("ANALYST", stream="A")
        assert repr(fabric) == "<Fabric 'fabric': 1 partition>"
        assert repr(fabric.session()) == "<Session 's'>"
        assert repr(agent) == "<Agent 'ANALYST' on 'A' in session 's': not started>"
        async with agent:
            running = "<Agent 'ANALYST' on 'A' in session 's': running, incarnation 1>"
            assert repr(agent) == running
            async with agent.writing("config.py", timeout=20) as grant:
                assert repr(grant) == f"<Grant config.py: current, token {grant.token}>"
            assert repr(grant) == f"<Grant config.py: lost, token {grant.token}>"
        assert repr(agent) == running.replace("running", "ended")


def test_the_synchronous_face_too(server: RunningServer) -> None:
    with SyncFabric.connect(server.url, session="s") as fabric:
        assert repr(fabric) == "<SyncFabric 'fabric': 1 partition>"
        assert repr(fabric.session()) == "<SyncSession 's'>"
        assert repr(fabric.agent("A")) == "<SyncAgent 'A' in session 's': not started>"


def test_no_secret_is_shown() -> None:
    for one in (Fabric.connect(SECRET_URL), SyncFabric.connect(SECRET_URL)):
        assert "not connected" in repr(one)
        assert "hunter2" not in repr(one)


def test_records_name_their_fields() -> None:
    message = Message("1-0", "NUDGE", "orchestrator", "", "0-1", {"waiting": ["B"]})
    assert "type='NUDGE'" in repr(message)
    assert "percent=50.0" in repr(ResumePoint("t", "c", 50.0, (), ()))
    assert repr(Grant(frozenset({"a"}), ["a", "b"], 7)) == "<Grant a, b: current, token 7>"
