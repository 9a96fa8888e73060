"""What a program prints, line by line: signals of ours, and the event stream of a coding agent.

A line that is a signal counts as one: a JSON document with `signal` or `signal_type` (or `type`, if
that is a signal's), also one over several lines, and a shorthand with its brackets. Coding agents
print JSON events: `claude --output-format stream-json` (or `json`), `codex exec --json`,
`gemini -o stream-json`, `opencode run --format json`. Of these, what the model says is read as
lines too; what its tools print is not.

COMPLETED and FAILED are kept for the end: the exit code decides which one is sent. Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabric.core.quota import PREFIX as QUOTA
from fabric.core.signal import SignalType
from fabric.wire.spelling import TYPE_FIELDS

#: A signal as a document, in any spelling.
Document = dict[str, Any]

#: Lines and bytes of a JSON document that is printed over several lines; a longer one is text.
BLOCK_LINES_MAX = 500
BLOCK_BYTES_MAX = 262_144
#: Characters of a program's last words that its end carries.
WORDS_CHARS_MAX = 2_000
#: How long a quota is taken to be used up if the client does not say it, ms.
QUOTA_MS = 60_000

#: Harness → whose quota it uses. OpenCode names the provider in its own configuration only.
VENDORS = {
    "claude": "anthropic",
    "codex": "openai",
    "gemini": "google",
    "opencode": "opencode",
    "cursor": "cursor",
}

_WORDS = frozenset(kind.value for kind in SignalType)
_SHORTHAND = re.compile(rf"(?:{'|'.join(sorted(_WORDS))})\(.+\)", re.DOTALL)
_LIMITED = re.compile(r"\b429\b|rate[ _-]?limit|RESOURCE_EXHAUSTED|quota exceeded", re.IGNORECASE)
#: Tools that keep a list of what is to be done; a call names all of it.
_LISTS = frozenset({"TodoWrite", "todowrite", "write_todos"})
#: Fields by which the first event of a coding agent names its conversation.
_MARKS = ("session_id", "sessionID", "thread_id")
#: Fields by which a document names its sender.
_SENDERS = ("emitter", "session")


@dataclass
class Output:
    """Reads the output of one agent; `read` yields the signals that follow from it."""

    agent: str
    session: str
    #: The coding agent whose events these are; "" if none was seen.
    harness: str = ""
    #: What it gave as its result.
    result: str | None = None
    #: What it said is wrong, if it ended so.
    error: str | None = None
    #: The payload of a COMPLETED or FAILED that it printed, with the type.
    ending: tuple[SignalType, Document] | None = None
    #: Whether the last model request was refused for its rate.
    is_limited: bool = False
    #: The conversation that Claude Code has ended at a write which has to wait.
    deferred: str = ""
    #: Signals of other agents that it printed; they do not count.
    foreign: int = 0
    #: What it has planned: id → whether that is done.
    _tasks: dict[str, bool] = field(default_factory=dict)
    _percent: float | None = None
    _block: list[str] = field(default_factory=list)
    _block_bytes: int = 0
    #: What Gemini CLI has said so far of one message: it comes in pieces.
    _spoken: str = ""

    def read(self, line: bytes) -> Iterator[Document]:
        """Yield the signals of one line of the program's standard output."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if (event := _object(text)) is not None and not self._block:
            if _kind(event):
                yield from self._signal(event)
            else:
                yield from self._event(event)
            return
        yield from self._text_line(text)

    def take_deferred(self) -> str:
        """Return the conversation to resume, once; "" if there is none."""
        found, self.deferred = self.deferred, ""
        return found

    def _text_line(self, text: str) -> Iterator[Document]:
        stripped = text.strip()
        if self._block or stripped == "{":
            self._block.append(text)
            self._block_bytes += len(text)
            is_whole = text.rstrip() == "}" or (stripped == "}" and _object(self._joined()))
            if is_whole and (found := _object(self._joined())) and _kind(found):
                yield from self._signal(found)
            too_long = len(self._block) > BLOCK_LINES_MAX or self._block_bytes > BLOCK_BYTES_MAX
            if is_whole or too_long:
                self._block, self._block_bytes = [], 0
        elif _SHORTHAND.fullmatch(stripped):
            yield from self._signal({"type": stripped})
        elif (found := _object(stripped)) is not None and _kind(found):
            yield from self._signal(found)

    def _joined(self) -> str:
        return "\n".join(self._block)

    def _signal(self, document: Document) -> Iterator[Document]:
        """Yield a signal under our own name; keep an ending."""
        named = {"emitter": self.agent, "session": self.session}
        if any(document.get(one) not in (None, "", named[one]) for one in _SENDERS):
            self.foreign += 1
            return
        # Numbers are of the sender's own counting, which is not the fabric's.
        kept = {k: v for k, v in document.items() if k not in ("seq", "incarnation", *_SENDERS)}
        kind = _kind(kept)
        if kind in (SignalType.COMPLETED, SignalType.FAILED):
            self.ending = kind, kept
            return
        yield kept

    def _event(self, event: Document) -> Iterator[Document]:
        """Read one event of a coding agent."""
        if not self.harness and not any(name in event for name in _MARKS):
            return  # some other program's JSON
        kind = event.get("type")
        if kind != "message" and self._spoken:
            spoken, self._spoken = self._spoken, ""
            yield from self._say(spoken)
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is not None:
            yield from reader(self, event)

    def _say(self, text: Any) -> Iterator[Document]:
        """Read what the model said; it is the result as long as nothing else is said to be."""
        if isinstance(text, str) and text.strip():
            self.result, self.error, self.is_limited = text, None, False
            for line in text.split("\n"):
                yield from self._text_line(line)
            self._block, self._block_bytes = [], 0

    def _fail(self, message: Any, status: Any = None) -> Iterator[Document]:
        """Note an error; yield BLOCKED on the vendor's quota if it was one of rate."""
        self.error = _text(message) or "no reason given"
        if status == 429 or (status is None and _LIMITED.search(self.error)):
            was_limited, self.is_limited = self.is_limited, True
            if not was_limited:
                on = QUOTA + VENDORS.get(self.harness, self.harness or "model")
                reason = self.error[:WORDS_CHARS_MAX]
                yield {"type": "BLOCKED", "on": on, "for_ms": QUOTA_MS, "reason": reason}

    def _tool(self, name: Any, given: Any) -> Iterator[Document]:
        """Read the call of a tool that plans: PROGRESS says how much of the plan is done."""
        if not isinstance(given, dict) or not isinstance(name, str):
            return
        if name in _LISTS and isinstance(given.get("todos"), list):
            todos = [one for one in given["todos"] if isinstance(one, dict)]
            self._tasks = {str(n): one.get("status") == "completed" for n, one in enumerate(todos)}
        elif name == "TaskCreate":
            self._tasks[str(len(self._tasks) + 1)] = False
        elif name == "TaskUpdate" and given.get("status") == "deleted":
            self._tasks.pop(str(given.get("taskId")), None)
        elif name == "TaskUpdate" and given.get("status"):
            self._tasks[str(given.get("taskId"))] = given["status"] == "completed"
        else:
            return
        yield from self._progress()

    def _progress(self) -> Iterator[Document]:
        if not self._tasks:
            return
        done = sum(self._tasks.values())
        percent = round(100 * done / len(self._tasks))
        if percent != (self._percent or 0):
            self._percent = percent
            yield {"type": "PROGRESS", "percent": percent}

    # One reader for each type of event. The shapes are those of samples in tests/agents/.

    def _init(self, event: Document) -> Iterator[Document]:
        if event.get("subtype") == "init":
            self.harness = "claude"
        elif event.get("type") == "init":
            self.harness = "gemini"
        elif event.get("type") == "thread.started":
            self.harness = "codex"
        yield from ()

    def _claude_message(self, event: Document) -> Iterator[Document]:
        self.harness = "claude"
        if event.get("is_api_error_message"):
            yield from self._fail(_content_text(event), event.get("api_error_status"))
            return
        for part in _parts(event):
            if part.get("type") == "text":
                yield from self._say(part.get("text"))
            elif part.get("type") == "tool_use":
                yield from self._tool(part.get("name"), part.get("input"))

    def _result(self, event: Document) -> Iterator[Document]:
        """The last event of Claude Code and of Gemini CLI."""
        if "is_error" in event:
            self.harness = "claude"
            if event.get("stop_reason") == "tool_deferred":
                self.deferred = _text(event.get("session_id"))
            if event["is_error"]:
                yield from self._fail(event.get("result"), event.get("api_error_status"))
            elif isinstance(event.get("result"), str):
                if self.result is None:  # `--output-format json`: there was nothing before
                    yield from self._say(event["result"])
                self.result = event["result"]
        elif event.get("status") not in (None, "success"):
            yield from self._fail(event.get("error"))

    def _codex_item(self, event: Document) -> Iterator[Document]:
        item = event.get("item")
        if not isinstance(item, dict):
            return
        self.harness = "codex"
        is_done = event["type"] == "item.completed"
        if item.get("type") == "agent_message" and is_done:
            yield from self._say(item.get("text"))
        elif item.get("type") == "todo_list" and isinstance(item.get("items"), list):
            items = [one for one in item["items"] if isinstance(one, dict)]
            self._tasks = {str(n): bool(one.get("completed")) for n, one in enumerate(items)}
            yield from self._progress()

    def _gemini_message(self, event: Document) -> Iterator[Document]:
        self.harness = "gemini"
        if event.get("role") == "assistant" and isinstance(event.get("content"), str):
            self._spoken = (self._spoken + event["content"])[-BLOCK_BYTES_MAX:]
        yield from ()

    def _turn_completed(self, event: Document) -> Iterator[Document]:
        """Codex has made the turn after all, whatever it said of reconnecting before."""
        self.error, self.is_limited = None, False
        yield from ()

    def _tool_use(self, event: Document) -> Iterator[Document]:
        """A tool call of Gemini CLI or of OpenCode."""
        part = event.get("part")
        if isinstance(part, dict):
            self.harness = "opencode"
            state = part.get("state")
            given = state.get("input") if isinstance(state, dict) else None
            yield from self._tool(part.get("tool"), given)
        else:
            self.harness = "gemini"
            yield from self._tool(event.get("tool_name"), event.get("parameters"))

    def _opencode_text(self, event: Document) -> Iterator[Document]:
        part = event.get("part")
        if isinstance(part, dict):
            self.harness = "opencode"
            yield from self._say(part.get("text"))

    def _error(self, event: Document) -> Iterator[Document]:
        """An error of Codex, Gemini CLI or OpenCode; Gemini's warnings are none."""
        if event.get("severity") == "warning":
            return
        error = event.get("error", event.get("message"))
        status = None
        if isinstance(error, dict):
            data = error.get("data")
            if isinstance(data, dict):  # OpenCode
                self.harness = "opencode"
                status, error = data.get("statusCode"), data.get("message")
            else:
                error = error.get("message")
        yield from self._fail(error, status)


_READERS = {
    "system": Output._init,
    "init": Output._init,
    "thread.started": Output._init,
    "assistant": Output._claude_message,
    "result": Output._result,
    "item.started": Output._codex_item,
    "item.updated": Output._codex_item,
    "item.completed": Output._codex_item,
    "turn.completed": Output._turn_completed,
    "turn.failed": Output._error,
    "message": Output._gemini_message,
    "tool_use": Output._tool_use,
    "text": Output._opencode_text,
    "error": Output._error,
}


def _object(text: str) -> Document | None:
    """Return the JSON object of a text; None if it is something else."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kind(document: Document) -> SignalType | None:
    """Return the type of a signal; None if the document is none."""
    for name in TYPE_FIELDS:
        word = document.get(name)
        if isinstance(word, str) and (bare := word.partition("(")[0].strip()) in _WORDS:
            return SignalType(bare)
    return None


def _parts(event: Document) -> Iterator[Document]:
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def _content_text(event: Document) -> str:
    return " ".join(_text(part.get("text")) for part in _parts(event))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("message", "")
    return value if isinstance(value, str) else "" if value is None else str(value)
