"""The hook that a client runs: it carries one event to the daemon, and the answer back.

    python -S -E hook.py HARNESS [--fail-closed] [--wait SECONDS]

Runs before and after every tool call, so it imports nothing but two modules that are built into
Python: `json` and `socket` would cost more than everything else here. When the daemon does not
answer, `fallback.py` starts it, or keeps the event and lets the client go on.

A request is a line `FABRIC1 <bytes of head> <bytes of body>`, the head (names and values in turn,
each ended by a NUL), and the body. The reply is a line `<exit code> <bytes> <bytes>`, stdout and
stderr.
"""

import posix
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket

#: The harnesses that have a dialect.
HARNESSES = ("claude", "codex", "gemini", "opencode", "cursor")

#: Seconds that a hook waits for a held file before the write is refused. It costs no tokens.
WAIT_S = 20.0

#: Seconds to connect: the daemon accepts at once, or is not there.
CONNECT_S = 1.0

#: Seconds that the daemon may take beyond the wait: Gemini ends a hook after 60 s.
ANSWER_S = 15.0

#: Variables of the client that say which server, session and agent it is for, and who it is.
VARIABLES = (
    b"FABRIC_AGENT", b"FABRIC_AGENTD", b"FABRIC_CONFIG", b"FABRIC_DEFER", b"FABRIC_INSTANCE",
    b"FABRIC_NAMESPACE", b"FABRIC_REDIS_URL", b"FABRIC_RUN", b"FABRIC_SESSION", b"FABRIC_STREAM",
    b"CLAUDE_PID", b"CLAUDE_PROJECT_DIR", b"CODEX_HOME", b"HOME", b"XDG_CONFIG_HOME",
    b"XDG_STATE_HOME",
)  # fmt: skip

#: Bytes of a socket's path. The kernels allow 107 (Linux) and 103 (macOS).
SOCKET_BYTES_MAX = 100


def state_home(environ: "dict[bytes, bytes]") -> bytes:
    """Return the folder of the fabric's state, as `devserver/project.py` has it."""
    named = environ.get(b"XDG_STATE_HOME", b"")
    if not named.startswith(b"/"):
        named = environ.get(b"HOME", b"/").rstrip(b"/") + b"/.local/state"
    return named + b"/fabric"


def folder(environ: "dict[bytes, bytes]") -> bytes:
    """Return the folder of the daemon's files: its lock, spool and log."""
    return state_home(environ) + b"/agentd"


def socket_path(environ: "dict[bytes, bytes]") -> bytes:
    """Return where the daemon listens. Only its owner may enter the folder."""
    named = environ.get(b"FABRIC_AGENTD", b"")
    if named:
        return named
    state = folder(environ)
    if len(state) + len(b"/sock") <= SOCKET_BYTES_MAX:
        return state + b"/sock"
    runtime = environ.get(b"XDG_RUNTIME_DIR", b"") or b"/tmp/fabric-%d" % posix.geteuid()
    return runtime + b"/fabric-agentd-%08x/sock" % _digest(state)


def _digest(data: bytes) -> int:
    """FNV-1a of 32 bits: two state folders do not share a socket, and nothing is imported."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def request(head: "list[bytes]", body: bytes) -> bytes:
    """Return a request; `head` has names and values in turn."""
    packed = b"".join(part + b"\0" for part in head)
    return b"FABRIC1 %d %d\n" % (len(packed), len(body)) + packed + body


def ask(path: bytes, data: bytes, answer_s: float) -> "tuple[int, bytes, bytes]":
    """Send a request; return exit code, stdout and stderr. Raises OSError without an answer."""
    if posix.stat(path[: path.rindex(b"/")]).st_uid != posix.geteuid():
        raise PermissionError(path)
    with_daemon = socket(AF_UNIX, SOCK_STREAM)
    try:
        with_daemon.settimeout(CONNECT_S)
        with_daemon.connect(path)
        with_daemon.settimeout(answer_s)
        with_daemon.sendall(data)
        said = b""
        while part := with_daemon.recv(65_536):
            said += part
    finally:
        with_daemon.close()
    line, _, rest = said.partition(b"\n")
    code, out, err = (int(word) for word in line.split())
    if len(rest) != out + err:
        raise OSError("the daemon's answer was cut off")
    return code, rest[:out], rest[out:]


def read_all() -> bytes:
    """Return standard input."""
    parts = []
    while part := posix.read(0, 65_536):
        parts.append(part)
    return b"".join(parts)


def main(words: "list[str]") -> int:
    """Run the hook; return its exit code."""
    harness, wait_s = words[0] if words else "", WAIT_S
    if harness not in HARNESSES:
        posix.write(2, b"usage: fabric hook claude|codex|gemini|opencode|cursor [--fail-closed]\n")
        return 1  # no client takes 1 for a refusal
    if "--wait" in words:
        wait_s = float(words[words.index("--wait") + 1])
    is_closed = "--fail-closed" in words
    environ: dict[bytes, bytes] = posix.environ
    body = read_all()
    head = [b"op", b"hook", b"harness", harness.encode(), b"cwd", _cwd(), b"ppid"]
    head += [b"%d" % posix.getppid(), b"wait_s", b"%g" % wait_s, b"closed", b"%d" % is_closed]
    for name in VARIABLES:
        if value := environ.get(name):
            head += [name, value]
    data, path = request(head, body), socket_path(environ)
    try:
        code, out, err = ask(path, data, wait_s + ANSWER_S)
    except (OSError, ValueError):
        # As this file's package: its root is where the folders above are.
        sys.path.insert(0, __file__.rsplit("/", 3)[0])
        from fabric.agents import fallback

        code, out, err = fallback.answer(
            lambda: ask(path, data, wait_s + ANSWER_S),
            fallback.Failed(folder(environ), path, data, body, harness, _cwd(), is_closed),
        )
    if out:
        posix.write(1, out)
    if err:
        posix.write(2, err)
    return code


def _cwd() -> bytes:
    try:
        return posix.getcwdb()
    except OSError:
        return b"/"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
