"""What an agent reports of its results: findings, numbers, documents; long ones in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fabric.client.message import given
from fabric.core.limits import PARTIAL_PARTS_MAX, PAYLOAD_BYTES_MAX
from fabric.core.signal import SignalType
from fabric.wire.spelling import size_of

#: Bytes of findings in one piece: a payload's limit, less room for the other fields.
PIECE_BYTES_MAX = PAYLOAD_BYTES_MAX - 65_536

#: A list with fewer findings is sent as it is without a look at its size: most are.
SMALL = 50


class Reporting:
    """The verbs of an agent that report results."""

    async def _report(self, kind: SignalType, **fields: Any) -> None:
        raise NotImplementedError

    async def partial_result(
        self,
        partial: dict[str, Any],
        *,
        checkpoint: str | None = None,
        all: bool = False,  # noqa: A002 - the protocol's own name for it
    ) -> None:
        """Hand over early findings: a document, or `{"findings": [{"key": …, "value": …}]}`.

        More findings than one signal takes are sent in several signals. With `all` the agent
        withdraws whatever it has said before and this leaves out.
        """
        partial, whole = await self._hand_over(partial, is_whole=all)
        kind = SignalType.PARTIAL_RESULT
        await self._report(kind, partial=partial, checkpoint=checkpoint, all=whole)

    async def finding(
        self,
        /,
        path: str | None = None,
        line: int | None = None,
        *,
        key: str | None = None,
        rule: str | None = None,
        severity: str | None = None,
        title: str | None = None,
        message: str | None = None,
        confidence: float | None = None,
        end_line: int | None = None,
        suggestion: str | None = None,
        url: str | None = None,
        source: str | None = None,
        value: object = None,
        evidence: object = None,
        supersedes: str | list[str] | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Hand over one finding: `finding("a.py", 42, rule="sql-injection", severity="high")`.

        `severity` is critical, high, medium, low or info. `data` holds whatever else there is to
        say. Without a `key` it follows from path, line and rule.
        """
        found = given(
            key=key, path=path, line=line, end_line=end_line, rule=rule, severity=severity,
            title=title, message=message, confidence=confidence, suggestion=suggestion, url=url,
            source=source, value=value, evidence=evidence, supersedes=supersedes, data=data,
        )  # fmt: skip
        await self.partial_result({"findings": [found]})

    async def add(self, /, **counts: float) -> None:
        """`add(tests=3)` adds 3 to the total of that name, which all agents share."""
        await self.partial_result({name: {"$add": count} for name, count in counts.items()})

    async def _hand_over(self, result: Any, *, is_whole: bool = False) -> tuple[Any, bool | None]:
        """Send what one signal cannot take of a result's findings; return the rest.

        The first signal withdraws what a whole result leaves out: True if that is still to be said.
        """
        *first, last = pieces(result)
        whole = is_whole or None
        for piece in first:
            await self._report(SignalType.PARTIAL_RESULT, partial=piece, all=whole)
            whole = None
        return last, whole


def pieces(result: Any) -> Iterator[Any]:
    """Yield a result in pieces that one signal each can take; the last has all but findings.

    Only a list of findings is divided. Whatever else is too long is refused as before.
    """
    findings = result.get("findings") if isinstance(result, Mapping) else None
    if not isinstance(findings, list) or not all(isinstance(one, Mapping) for one in findings):
        yield result
        return
    rest = {name: value for name, value in result.items() if name != "findings"}
    if len(findings) <= SMALL and len(rest) <= SMALL:
        yield result
        return
    room = PARTIAL_PARTS_MAX if not rest else PARTIAL_PARTS_MAX // 2
    piece: list[Any] = []
    size = 0
    for one in findings:
        bytes_ = size_of(one) + 1
        if piece and (len(piece) == room or size + bytes_ > PIECE_BYTES_MAX // (1 + bool(rest))):
            yield {"findings": piece}
            piece, size = [], 0
        piece.append(one)
        size += bytes_
    yield {**rest, "findings": piece}
