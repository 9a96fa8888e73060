"""Wakes an idle client: prints a line for each thing that has come, as long as the client lives.

    python -S -E follow.py HARNESS [CONVERSATION]

Claude Code runs it as its plugin's monitor, and OpenCode's plugin runs it: each line begins a turn.
The agent daemon answers when the client is idle and somebody wants something of its agent; in the
middle of a turn the hooks bring it. Standard library only, as the hook.
"""

import os
import sys
import time

#: Seconds until a daemon that is away is asked again; the next hook starts it.
RETRY_S = 2.0

#: Seconds for an answer: there may be none for days.
ANSWER_S = 7 * 86_400.0


def main(words: "list[str]") -> int:
    """Print what comes until the client has ended; return the exit code."""
    # As this file's package: its root is where the folders above are.
    sys.path.insert(0, os.path.abspath(__file__).rsplit("/", 3)[0])  # noqa: PTH100 - no pathlib, as in the hook
    from fabric.agents import hook

    client = os.getppid()
    conversation = words[1] if len(words) > 1 else os.environ.get("CLAUDE_CODE_SESSION_ID", "")
    environ = dict(os.environb)
    head = [b"op", b"wake", b"harness", words[0].encode(), b"cwd", os.fsencode(os.getcwd())]  # noqa: PTH109 - no pathlib here
    head += [b"conversation", os.fsencode(conversation), b"ppid", b"%d" % client]
    for name in hook.VARIABLES:
        if value := environ.get(name):
            head += [name, value]
    while os.getppid() == client:
        try:
            code, line, _ = hook.ask(hook.socket_path(environ), hook.request(head, b""), ANSWER_S)
        except (OSError, ValueError):
            time.sleep(RETRY_S)
            continue
        if code:
            return 0  # the client has ended
        os.write(1, line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
