"""A scripted model on loopback, in the wire protocols of four vendors: real clients run against it.

    POST /v1/messages              Anthropic Messages        Claude Code
    POST /v1/responses             OpenAI Responses          Codex
    POST /v1/chat/completions      OpenAI Chat Completions   OpenCode
    POST …:streamGenerateContent   Gemini                    Gemini CLI

The prompt names a script: `script=NAME`, the file NAME.json in the folder of scripts. A script is a
list of turns. The turn that is played is the number of answers that the request's history holds
after the prompt, so the server keeps no state, and retries and many clients at once do no harm.

    {"text": "done"}                               an answer, which ends the client's turn
    {"tools": [{"name": "Write", "input": {…}}]}   calls of tools; "raw" for a custom one of Codex,
                                                   "namespace" for one of an MCP server there
    {"status": 429, "body": {…}, "headers": {…}}   an error
    {"edits": …}                                   a script by itself: `edit.py` makes all its turns

A request without tools or without a script gets "ok" (titles, summaries). All are kept in a log.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlparse

from tests.clients import edit

_SCRIPT = re.compile(r"script=([A-Za-z0-9_.-]+)")
#: Seconds for all to come to a meeting, and for a gate to be opened.
MEET_S = 3.0
GATE_S = 240.0

_USAGE = {"input_tokens": 10, "output_tokens": 5}

Json = dict[str, Any]
Turn = Json
#: Streams an answer: pairs of an event's name, or None, and its data.
Events = Iterator[tuple[str | None, Any]]


class History(NamedTuple):
    """What a request holds: items in order, and which of them the model said."""

    items: list[Json]
    is_model: Callable[[Json], bool]
    has_tools: bool
    render: Callable[[Turn, Json], Events]


def texts(value: Any) -> Iterator[str]:
    """Yield every string below a value: each protocol nests its text in another way."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from texts(item)


def is_result(item: Json) -> bool:
    """Whether an item only brings the result of a tool."""
    if str(item.get("type")).endswith("call_output") or item.get("role") == "tool":
        return True
    parts = item.get("content") or item.get("parts") or []
    return isinstance(parts, list) and bool(parts) and all(
        isinstance(part, dict) and (part.get("type") == "tool_result" or "functionResponse" in part)
        for part in parts
    )  # fmt: skip


def place(history: History) -> tuple[str | None, int, list[str]]:
    """Return the script, the turn, and the text of each result since the prompt, in order."""
    script, turn, was_model = None, 0, False
    results: list[str] = []
    for item in history.items:
        is_model = history.is_model(item)
        if is_model:
            # Responses lists each call as an item of its own: adjacent ones are one answer.
            turn += not was_model
            if not was_model:
                results.append("")
        elif is_result(item):
            results[-1:] = ["\n".join([*results[-1:], *texts(item)])]
        elif found := _SCRIPT.findall("\n".join(texts(item))):
            script, turn, results = found[-1], 0, []
        was_model = is_model
    return script, turn, results


class Model(ThreadingHTTPServer):
    """The server, in threads of this process: `with Model(folder) as model`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, meet_s: float = MEET_S) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._meeting = threading.Condition()
        self._met: Counter[str] = Counter()
        self._meet_s = meet_s
        #: File → what the first write of it waits for (`edit.py`).
        self.gates: dict[str, threading.Event] = {}
        self.requests: list[tuple[str, int, Json]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def script(self, name: str, turns: list[Turn] | Turn) -> None:
        """Write a script."""
        (self._folder / f"{name}.json").write_text(json.dumps(turns))

    def told(self, script: str) -> str:
        """Return everything that the model was given in the requests of a script."""
        with self._lock:
            return json.dumps([body for name, _, body in self.requests if name == script])

    def _meet(self, name: str, count: int) -> None:
        """Wait until so many have come to a meeting, or for a while."""
        with self._meeting:
            self._met[name] += 1
            self._meeting.notify_all()
            self._meeting.wait_for(lambda: self._met[name] >= count, self._meet_s)

    def turn(self, body: Json, history: History) -> Turn:
        """Return the answer to a request."""
        script, number, results = place(history)
        if not script or not history.has_tools:
            return {"text": "ok"}
        with self._lock:
            self.requests.append((script, number, body))
        found: list[Turn] | Turn = json.loads((self._folder / f"{script}.json").read_text())
        if isinstance(found, dict):
            answer = edit.turn(found, results)
            if "meet" in answer:
                if gate := self.gates.get(answer["meet"]):
                    gate.wait(GATE_S)
                self._meet(f"{found['round']} {answer['meet']}", found["count"])
            return answer
        return found[number] if number < len(found) else {"text": "the script is over"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._json({})

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [], "models": [], "has_more": False})

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body: Json = json.loads(self.rfile.read(size) or b"{}")
        path = urlparse(self.path).path
        protocol = next((one for end, one in _PROTOCOLS.items() if path.endswith(end)), None)
        if protocol is None:
            return self._json({})
        history = protocol(body)
        answer = self.server.turn(body, history)
        if "status" in answer:
            error = answer.get("body", {"error": {"message": "no"}})
            return self._json(error, answer["status"], answer.get("headers", {}))
        events = history.render(answer, body)
        if path.endswith(":generateContent") or ("stream" in body and not body["stream"]):
            return self._json([*events][-1][1])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            head = f"event: {name}\n" if name else ""
            self.wfile.write(f"{head}data: {text}\n\n".encode())
        return None

    def _json(self, value: Any, status: int = 200, headers: Json = {}) -> None:  # noqa: B006 - not changed
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:20]}"


def _messages(body: Json) -> History:
    def render(answer: Turn, body: Json) -> Events:
        blocks: list[Json] = [{"type": "text", "text": answer["text"]}] if "text" in answer else []
        for tool in answer.get("tools", []):
            call = {"id": _id("toolu"), "name": tool["name"], "input": tool["input"]}
            blocks.append({"type": "tool_use", **call})
        stop = "tool_use" if answer.get("tools") else "end_turn"
        head = {"id": _id("msg"), "type": "message", "role": "assistant", "stop_sequence": None}
        head["model"] = body.get("model")
        begun: Json = {**head, "content": [], "stop_reason": None, "usage": _USAGE}
        yield "message_start", {"type": "message_start", "message": begun}
        for index, block in enumerate(blocks):
            if block["type"] == "text":
                empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                given = json.dumps(block["input"])
                empty = {**block, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": given}
            for kind, more in (
                ("content_block_start", {"content_block": empty}),
                ("content_block_delta", {"delta": delta}),
                ("content_block_stop", {}),
            ):
                yield kind, {"type": kind, "index": index, **more}
        delta = {"stop_reason": stop, "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": delta, "usage": _USAGE}
        if body.get("stream"):
            yield "message_stop", {"type": "message_stop"}
        else:
            yield None, {**head, "content": blocks, "stop_reason": stop, "usage": _USAGE}

    return History(
        body.get("messages", []),
        lambda item: item.get("role") == "assistant",
        bool(body.get("tools")),
        render,
    )


def _responses(body: Json) -> History:
    calls = ("function_call", "custom_tool_call", "reasoning", "local_shell_call")

    def render(answer: Turn, body: Json) -> Events:
        output: list[Json] = []
        if "text" in answer:
            part = {"type": "output_text", "text": answer["text"], "annotations": []}
            said = {"type": "message", "role": "assistant", "status": "completed"}
            output.append({**said, "id": _id("msg"), "content": [part]})
        for tool in answer.get("tools", []):
            call = {"call_id": _id("call"), "name": tool["name"], "status": "completed"}
            call |= {"namespace": tool["namespace"]} if "namespace" in tool else {}
            if "raw" in tool:
                output.append(
                    {"type": "custom_tool_call", "id": _id("ctc"), "input": tool["raw"], **call}
                )
            else:
                given = json.dumps(tool["input"])
                output.append(
                    {"type": "function_call", "id": _id("fc"), "arguments": given, **call}
                )
        head: Json = {"id": _id("resp"), "object": "response", "model": body.get("model")}
        begun = {**head, "status": "in_progress", "output": []}
        yield "response.created", {"type": "response.created", "response": begun}
        for index, item in enumerate(output):
            for step in ("added", "done"):
                kind = f"response.output_item.{step}"
                yield kind, {"type": kind, "output_index": index, "item": item}
        details = {"input_tokens_details": {"cached_tokens": 0}}
        details["output_tokens_details"] = {"reasoning_tokens": 0}
        done = {**head, "status": "completed", "output": output}
        done["usage"] = {**_USAGE, **details, "total_tokens": 15}
        yield "response.completed", {"type": "response.completed", "response": done}

    items = body.get("input", [])
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    has_tools = body.get("tools") or any(one.get("type") == "additional_tools" for one in items)
    return History(
        items,
        lambda item: item.get("role") == "assistant" or item.get("type") in calls,
        bool(has_tools),
        render,
    )


def _chat(body: Json) -> History:
    def render(answer: Turn, body: Json) -> Events:
        calls = [
            {
                "index": index,
                "id": _id("call"),
                "type": "function",
                "function": {"name": tool["name"], "arguments": json.dumps(tool["input"])},
            }
            for index, tool in enumerate(answer.get("tools", []))
        ]
        head = {"id": _id("chatcmpl"), "created": 0, "model": body.get("model")}
        head["object"] = "chat.completion.chunk"
        said = {"role": "assistant", "content": answer.get("text")}
        said |= {"tool_calls": calls} if calls else {}
        first = {"index": 0, "delta": said, "finish_reason": None}
        yield None, {**head, "choices": [first]}
        last = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        yield None, {**head, "choices": [last], "usage": usage}
        yield None, "[DONE]"

    return History(
        body.get("messages", []),
        lambda item: item.get("role") == "assistant",
        bool(body.get("tools")),
        render,
    )


def _gemini(body: Json) -> History:
    def render(answer: Turn, body: Json) -> Events:
        parts: list[Json] = [{"text": answer["text"]}] if "text" in answer else []
        for tool in answer.get("tools", []):
            parts.append({"functionCall": {"name": tool["name"], "args": tool["input"]}})
        content = {"role": "model", "parts": parts}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        found = {"content": content, "finishReason": "STOP", "index": 0}
        yield None, {"candidates": [found], "usageMetadata": usage, "modelVersion": "fake"}

    return History(
        body.get("contents", []),
        lambda item: item.get("role") == "model",
        bool(body.get("tools")),
        render,
    )


_PROTOCOLS = {
    "/messages": _messages,
    "/responses": _responses,
    "/chat/completions": _chat,
    ":generateContent": _gemini,
    ":streamGenerateContent": _gemini,
}
