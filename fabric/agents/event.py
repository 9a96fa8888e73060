"""An event of a client, and the answer to it, whichever client it is.

Standard library only: the hook reads these without the packages of the fabric's environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Moment(Enum):
    """When in a session an event comes."""

    SESSION_START = "session start"
    TURN_START = "turn start"
    BEFORE_TOOL = "before tool"
    AFTER_TOOL = "after tool"
    TURN_END = "turn end"
    #: The turn ended with an error of the model's server.
    TURN_FAILED = "turn failed"
    SESSION_END = "session end"
    SUBAGENT_START = "subagent start"
    SUBAGENT_END = "subagent end"


class Action(Enum):
    """What a tool does, as far as others are concerned."""

    #: Changes files by a rule that reads them first: an edit, a patch.
    EDIT = "edit"
    #: Writes whole files, whatever is in them.
    OVERWRITE = "overwrite"
    SHELL = "shell"
    READ = "read"
    #: Keeps the agent's own list of tasks.
    TODO = "todo"
    OTHER = "other"


#: Actions that change files which the event names.
WRITES = frozenset({Action.EDIT, Action.OVERWRITE})


@dataclass(frozen=True)
class Todo:
    """An entry of an agent's list. `status` is pending, in_progress or completed."""

    content: str
    status: str
    #: The client's own number of it; "" where the whole list comes each time.
    id: str = ""


@dataclass(frozen=True)
class Event:
    """One event, in no client's words."""

    harness: str
    moment: Moment
    #: The event's name in the client.
    name: str
    #: The client's id of the conversation, and of the sub-agent within it, if it is one's.
    session_id: str
    agent_id: str = ""
    cwd: str = "/"
    tool: str = ""
    action: Action = Action.OTHER
    #: Absolute paths, as the tool names them.
    paths: tuple[str, ...] = ()
    tool_id: str = ""
    todos: tuple[Todo, ...] = ()
    #: Whether `todos` is the whole list.
    is_whole_list: bool = False
    #: Why a turn failed.
    error: str = ""
    #: The vendor's limit that is used up; "" if none is.
    quota: str = ""
    #: The end of this turn was refused before.
    is_held: bool = False
    #: What the user has said, at the start of a turn.
    prompt: str = ""
    #: The client's file of the conversation.
    transcript: str = ""
    #: Whether the client shows the model text that comes with the answer.
    takes_context: bool = False
    #: What is told stays in the conversation. OpenCode makes its system prompt anew each time.
    is_lasting: bool = True

    @property
    def is_write(self) -> bool:
        """Whether a tool is about to change files."""
        return self.moment is Moment.BEFORE_TOOL and self.action in WRITES


@dataclass(frozen=True)
class Answer:
    """What a client is told. At most one of `refusal`, `hold` and `is_deferred` is set."""

    #: Why the tool may not run.
    refusal: str = ""
    #: Why the turn may not end yet.
    hold: str = ""
    #: The client ends its run here, to be resumed with this very call.
    is_deferred: bool = False
    #: What the model is to read.
    context: str = ""
    #: Variables for the shells that the client starts.
    variables: tuple[tuple[str, str], ...] = ()
