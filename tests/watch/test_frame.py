"""The layout of `fabric watch`: every line fits, whatever the agents have put into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.escalation import MASS_SILENCE
from fabric.core.record import AgentRecord, AgentStatus, EscalationRecord, EscalationState
from fabric.ops.questions import Question
from fabric.view.timeline import Row
from fabric.watch.board import Board, Point
from fabric.watch.frame import cells, chart, fit, frame, text_of

#: Terminals from the smallest that anybody uses to a wide one.
SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


def agent(status: AgentStatus = AgentStatus.ACTIVE, **more: object) -> AgentRecord:
    return AgentRecord(status, 1, **more)  # type: ignore[arg-type] # fields of the record, by name


def board_of(agents: dict[str, AgentRecord], questions: list[Question] | None = None) -> Board:
    board = Board("s")
    board.take_records(agents, {}, {}, questions or [])
    return board


def drawn(board: Board, width: int = 80, height: int = 24) -> list[str]:
    lines = [text_of(line) for line in frame(board, width, height)]
    assert len(lines) <= height
    assert all(cells(line) <= width for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    return lines


def test_agents_stand_by_stream_with_bar_status_and_what_they_wait_for() -> None:
    board = board_of(
        {
            "SCHEDULER": agent(AgentStatus.BLOCKED, stream="B", percent=25, waits_for=["schema"]),
            "ALEMBIC": agent(stream="A", percent=50, checkpoint="files_read"),
            "REVIEWER": agent(AgentStatus.FAILED, stream="B", error="no disk"),
            "DONE": agent(AgentStatus.COMPLETED, stream="C"),
        }
    )
    lines = drawn(board)
    assert lines[0] == "s  0:00  4 agents: 1 active, 1 blocked, 1 completed, 1 failed"
    assert lines[2] == "STREAM AGENT                 DONE STATUS    FOUND WAITS FOR / AT"
    assert lines[3:7] == [
        "A      ALEMBIC   █████·····  50 % active          files_read",
        "B      REVIEWER  ··········       failed          no disk",
        "       SCHEDULER ██········  25 % blocked         schema",
        "C      DONE      ██████████ 100 % completed",
    ]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_where_not_all_agents_have_room_those_held_up_come_first(width: int, height: int) -> None:
    agents = {f"A{n:04}": agent(AgentStatus.COMPLETED) for n in range(5_000)}
    agents["LATE"] = agent(AgentStatus.BLOCKED, waits_for=["x"])
    agents["WORKS"] = agent()
    lines = drawn(board_of(agents), width, height)
    assert any("LATE" in line for line in lines)
    if height > 10:
        assert any("WORKS" in line for line in lines)
        more = next(line for line in lines if line.startswith("… and more: "))
        shown = sum(line.lstrip().startswith("A0") for line in lines)
        assert more == f"… and more: {5_000 - shown:,} completed"


def test_questions_come_with_the_command_that_answers_them() -> None:
    record = EscalationRecord(EscalationState.OPEN, "which port?", "A")
    lines = drawn(board_of({"A": agent()}, [Question("s", "7:A", record)]), 120)
    assert "Open questions (1)" in lines
    assert "  A: which port?" in lines
    assert "    fabric decide 7:A ANSWER --session s" in lines


def test_an_agent_that_sends_only_heartbeats_while_others_wait_stands_out() -> None:
    idle = agent(checkpoint="files_read", idle_since_ms=60_000)
    stuck = agent(checkpoint="files_read", idle_since_ms=60_000, nudged_ms=90_000)
    board = board_of({"A": idle, "B": stuck})
    lines = drawn(board)
    assert lines[3].endswith("files_read")
    assert lines[4].endswith("only heartbeats since 1:00")
    crowd = {f"A{n:02}": agent() for n in range(50)} | {"Z": agent(nudged_ms=1)}
    assert any(line.lstrip().startswith("Z") for line in drawn(board_of(crowd)))


def test_the_question_about_many_silent_agents_comes_first() -> None:
    asked = [EscalationRecord(EscalationState.OPEN, f"question {n}?", "A") for n in range(9)]
    asked.append(EscalationRecord(EscalationState.OPEN, "are they gone?", "", subject=MASS_SILENCE))
    questions = [Question("s", f"{n}-0", one) for n, one in enumerate(asked)]
    lines = drawn(board_of({"A": agent()}, questions))
    place = lines.index("Open questions (10)")
    assert lines[place + 1] == "  the fabric: are they gone?"
    assert lines[place + 3] == "  A: question 0?"


def test_the_chart_shows_findings_over_time() -> None:
    board = Board("s")
    board.growth.points = [
        Point(1, 0, 0, 0, 0, 0),
        Point(2, 0, 1, 0, 0, 5_000),
        Point(3, 0, 8, 80, 1, 10_000),
    ]
    assert chart(board.growth, 10) == "    ▁▁▁▁▁█"
    (line,) = [line for line in drawn(board) if line.startswith("Synthesis")]
    assert line.startswith("Synthesis revision 3, 80 %, 8 findings, 1 open contradiction  ")
    assert line.endswith("█")
    assert chart(board.growth, 3) == ""


def test_trouble_takes_the_title() -> None:
    board = board_of({"A": agent()})
    board.trouble = "the server does not answer"
    assert drawn(board)[0] == "s  0:00  the server does not answer"


def test_a_session_without_anything_says_so() -> None:
    assert drawn(Board("s")) == ["s  0:00  no agents yet", "", "Synthesis no revision yet"]


@given(
    name=st.text(max_size=60),
    size=st.sampled_from(SIZES),
    percent=st.floats(allow_nan=False) | st.none(),
)
def test_whatever_agents_say_every_line_fits_and_prints(
    name: str, size: tuple[int, int], percent: float | None
) -> None:
    record = EscalationRecord(EscalationState.OPEN, name, name)
    hostile = agent(stream=name, percent=percent, checkpoint=name, waits_for=[name])
    board = board_of({name: hostile, "B": agent(error=name)}, [Question("s", name, record)])
    board.rows.append(Row("1-0", 5, name, (name,), (name,), name, is_detail=False))
    drawn(board, *size)


@given(text=st.text(), width=st.integers(0, 30))
def test_a_text_fits_its_cells(text: str, width: int) -> None:
    assert cells(fit(text, width)) <= width


def test_wide_characters_take_two_cells() -> None:
    assert cells("日本") == 4
    assert fit("日本語", 5) == "日本…"
    assert cells("e\u0301") == 1
