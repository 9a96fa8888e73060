"""What an agent reports: findings and counts in one call, long results in pieces."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest

from fabric.client.emitter import prepare
from fabric.client.report import PIECE_BYTES_MAX, pieces
from fabric.errors import EndedError, SignalError
from fabric.testing import running


async def test_findings_and_counts_arrive() -> None:
    async with (
        running(session="demo") as fabric,
        fabric.agent("A") as a,
        fabric.agent("B") as b,
    ):
        await a.finding("./a.py", 42, rule="sqli", severity="error", data={"owner": "ann"})
        await b.finding("a.py", 42, rule="sqli", confidence=0.9)
        await a.add(tests=3, failures=1)
        await b.add(tests=4)
        await fabric.settle()
        synthesis = await fabric.session().synthesis()
    (finding,) = synthesis.findings.values()
    assert finding.key == "a.py:42:sqli"
    assert finding.fields["severity"] == "high"
    assert finding.fields["data"] == {"owner": "ann"}
    assert synthesis.plain == {"tests": 7, "failures": 1}


async def test_more_findings_than_one_signal_takes_are_sent_in_several() -> None:
    findings = [{"key": str(number), "value": number} for number in range(2_500)]
    async with running(session="demo") as fabric:
        async with fabric.agent("A") as agent:
            await agent.partial_result({"findings": findings, "summary": "many"})
            await agent.complete({"findings": [{**one, "value": -1} for one in findings]})
        await fabric.settle()
        synthesis = await fabric.session().synthesis()
    assert synthesis.complete.findings == 2_500
    assert {one.value for one in synthesis.findings.values()} == {-1}
    assert synthesis.plain == {"summary": {"A": "many"}}


async def test_a_whole_result_in_several_signals_withdraws_what_it_leaves_out() -> None:
    findings = [{"key": str(number), "value": number} for number in range(2_500)]
    async with running(session="demo") as fabric:
        async with fabric.agent("A") as agent:
            await agent.partial_result({"findings": [{"key": "old", "value": 1}], "n": 1})
            await agent.complete({"findings": findings, "m": 2}, all=True)
        await fabric.settle()
        synthesis = await fabric.session().synthesis()
    assert synthesis.findings["old"].state == "withdrawn"
    assert synthesis.complete.findings == 2_500
    assert synthesis.plain == {"m": 2}


async def test_what_was_found_before_a_checkpoint_stands_for_an_agent_that_resumes_from_it() -> (
    None
):
    async with running(session="demo") as fabric:
        with suppress(EndedError):  # it is replaced while it works
            async with fabric.agent("A") as first:
                await first.partial_result({"findings": [{"key": "k", "value": "before"}], "n": 1})
                await first.checkpoint("drafted")
                await first.partial_result({"findings": [{"key": "k", "value": "after"}], "m": 2})
                async with fabric.agent("A", take_over=True, resumes_from="drafted"):
                    await fabric.settle()
                    synthesis = await fabric.session().synthesis()
        assert synthesis.findings["k"].value == "before"
        assert synthesis.plain == {"n": 1}
        async with fabric.agent("A", resumes_from="nothing") as third:
            await fabric.settle()
            notices = [str(one.payload.get("reason")) for one in await third.take_messages()]
    assert any("has not passed nothing" in one for one in notices)


async def test_whole_without_a_result_is_refused() -> None:
    async with running(session="demo") as fabric, fabric.agent("A") as agent:
        with pytest.raises(SignalError, match="a `result` beside `all`"):
            await agent.complete(all=True)


def test_pieces_have_everything_once_and_fit() -> None:
    findings: list[Any] = [{"key": str(number), "value": "x" * 100_000} for number in range(60)]
    made = list(pieces({"findings": findings, "n": 1}))
    assert [one for piece in made for one in piece["findings"]] == findings
    assert ["n" in piece for piece in made] == [False] * (len(made) - 1) + [True]
    for piece in made:
        assert sum(len(one["value"]) for one in piece["findings"]) < PIECE_BYTES_MAX


@pytest.mark.parametrize("result", [None, 5, [], {}, {"findings": "ours"}, {"findings": [1] * 99}])
def test_what_is_no_list_of_findings_stays_whole(result: Any) -> None:
    assert list(pieces(result)) == [result]


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_numbers_that_json_does_not_have_are_refused_by_name(value: float, name: str) -> None:
    payload = {"partial": {"coverage": [1, {"x": value}], "none": None}}
    document = {"type": "PARTIAL_RESULT", "session": "s", "emitter": "A", "payload": payload}
    with pytest.raises(SignalError) as caught:
        prepare(document, {})
    assert (caught.value.field, caught.value.given) == ("partial.coverage[1].x", name)
