"""Keep a board up to date with its session until the session has ended. Only reads."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from fabric.client.history import ReadHistory
from fabric.client.session import Session, pages, still_open
from fabric.core.rules import Rules
from fabric.errors import NotFoundError, UnavailableError, UnreachableError
from fabric.ops.board import rules_of
from fabric.ops.questions import questions
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore
from fabric.store.value import whole_number
from fabric.view.timeline import Row
from fabric.watch.board import Board
from fabric.watch.tasks import TaskBoard, TaskNews

#: Log entries that are read of what happened before.
PAST_ENTRIES_MAX = 500

#: Time between two readings, s: at least this, and at least so many times what a reading takes,
#: so that those who watch a fleet of thousands do not keep the server busy.
READ_S_MIN = 0.1
READ_SHARE = 2

#: The session has ended when all agents have ended and nothing came for so long, s: when the
#: synthesis is final, and when it is not (no synthesizer may be at work).
FINAL_S, QUIET_S = 0.3, 10.0

B = TypeVar("B", Board, TaskBoard)
News = TypeVar("News")

Show = Callable[[Board, list[Row]], None]


class Follow(ABC, Generic[B, News]):
    """Reads a session into a board, again and again: what is new since the last reading."""

    board: B

    @abstractmethod
    async def read(self) -> News:
        """Bring the board up to date; return what is new. After an error, read again.

        Raises NotFoundError if the session is gone.
        """

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether nothing more is to come."""

    @abstractmethod
    def nothing(self) -> News:
        """Return the news of a reading that has failed."""

    async def until_ended(self, show: Callable[[B, News], None], *, stay: bool = False) -> None:
        """Read and show, through outages, until the session has ended; with `stay` for ever."""
        while True:
            begun_s = time.monotonic()
            try:
                news = await self.read()
                self.board.trouble = ""
            except (UnreachableError, UnavailableError):
                news, self.board.trouble = (
                    self.nothing(),
                    "the server does not answer: trying again",
                )
            show(self.board, news)
            if not stay and not self.board.trouble and self.has_ended():
                return
            took_s = time.monotonic() - begun_s
            await asyncio.sleep(max(READ_S_MIN, READ_SHARE * took_s))


class Follower(Follow[Board, list[Row]]):
    """Reads agents, waits, questions, timeline and synthesis."""

    def __init__(self, store: ClientStore, keys: SessionKeys, board: Board) -> None:
        self.board = board
        self._store = store
        self._keys = keys
        self._session = Session(store, keys)
        self._place: bytes | None = None
        self._opened: bytes | None = None
        self._history = ReadHistory()
        #: New rows, until a reading has succeeded as a whole.
        self._rows: list[Row] = []
        #: When something new came last, and when the session opened, by our own clock, s.
        self._news_s = time.monotonic()
        self._opened_s = float("inf")
        #: An agent is expected and has not come.
        self._is_awaiting = False

    async def read(self) -> list[Row]:
        """Bring the board up to date; return the new rows of the timeline."""
        self._opened = await still_open(self._store, self._keys, self._opened)
        if self._place is None:
            self._place = await self._begin()
            self._rows += self.board.rows
        # Somebody may have added an entry far ahead of the log, which a worker has removed since.
        self._place = await self._history.last_kept(self._store, self._keys.log) or self._place
        async for page in pages(self._store, self._keys, self._place):
            for entry in page:
                self._history.note(entry)
            self._rows += self.board.take_log(page)
            self._place = page[-1][0]
            # The entry that was seen soonest after its time tells best when the session opened.
            self._opened_s = min(self._opened_s, time.monotonic() - self.board.at_ms / 1000)
            self._news_s = time.monotonic()
        await self._read_revisions()
        roster = (await self._session.roster()).values()
        self._is_awaiting = any(one.is_awaited for one in roster)
        self.board.take_records(
            await self._session.agents(),
            await self._session.claims(),
            await self._session.barriers(),
            await questions(self._session),
        )
        rows, self._rows = self._rows, []
        return rows

    def has_ended(self) -> bool:
        """Whether all agents have ended, and nothing came for a while."""
        limit_s = FINAL_S if self.board.growth.is_final else QUIET_S
        is_over = self.board.has_ended and not self._is_awaiting
        return is_over and time.monotonic() - self._news_s >= limit_s

    def nothing(self) -> list[Row]:
        """Return no rows."""
        return []

    async def _begin(self) -> bytes:
        """Give the board the newest log entries; return the id of the last one."""
        opened_ms = await self._opened_ms()
        streams = {name: agent.stream for name, agent in (await self._session.agents()).items()}
        past = await self._store.entries(
            self._keys.log, b"-", b"+", PAST_ENTRIES_MAX, newest_first=True
        )
        self.board.begin(opened_ms, streams)
        self.board.take_log(reversed(past))
        return past[0][0] if past else BEGINNING

    async def _opened_ms(self) -> int:
        (opened,) = await self._store.fields(self._keys.meta, ["opened_ms"])
        return whole_number(opened) or 0

    async def _read_revisions(self) -> None:
        board = self.board
        try:
            async for revision in self._session.revisions(board.growth.revision, follow=False):
                # 0: the session was opened after this reading had passed its log.
                board.opened_ms = board.opened_ms or await self._opened_ms()
                made_ms = max(0, revision.ms - board.opened_ms)
                seen_ms = made_ms
                if self._opened_s < float("inf"):
                    seen_ms = max(made_ms, round((time.monotonic() - self._opened_s) * 1000))
                board.growth.take(revision, seen_ms, made_ms)
                self._news_s = time.monotonic()
        except NotFoundError:  # somebody has trimmed some of them
            synthesis = await self._session.synthesis()
            board.growth.begin_at(synthesis, board.at_ms)


class TaskFollower(Follow[TaskBoard, TaskNews]):
    """Reads the tasks, and the balancer's moves from the log."""

    def __init__(
        self, store: ClientStore, keys: SessionKeys, board: TaskBoard, local: Rules
    ) -> None:
        """`local` are the rules of this folder: those of the session, if it names the same."""
        self.board = board
        self._store = store
        self._keys = keys
        self._local = local
        self._session = Session(store, keys)
        self._opened: bytes | None = None
        self._place: bytes | None = None
        #: Of the last reading: the digest of the rules, and the number of the last event.
        self._rules = ""
        self._log: bytes | None = None
        self._history = ReadHistory()

    async def read(self) -> TaskNews:
        """Bring the board up to date; return the tasks that have changed, and the new moves."""
        self._opened = await still_open(self._store, self._keys, self._opened)
        if self._place is None:
            past = await self._store.entries(
                self._keys.log, b"-", b"+", PAST_ENTRIES_MAX, newest_first=True
            )
            moves = self.board.take_log(reversed(past))
            self._place = past[0][0] if past else BEGINNING
        else:
            self._place = await self._history.last_kept(self._store, self._keys.log) or self._place
            moves = []
        async for page in pages(self._store, self._keys, self._place):
            for entry in page:
                self._history.note(entry)
            moves += self.board.take_log(page)
            self._place = page[-1][0]
        names = ["opened_ms", "closed_ms", "log", "rules"]
        opened, closed, log, rules = await self._store.fields(self._keys.meta, names)
        digest = (rules or b"").decode("ascii", "replace")
        if self._log is None or digest != self._rules:
            self._rules = digest
            self.board.rules = await rules_of(self._store, self._keys, digest, self._local)
        self.board.opened_ms, self.board.is_closed = whole_number(opened) or 0, bool(closed)
        tasks = self.board.progress.tasks
        if self._log is None or log != self._log:
            tasks, self._log = await self._session.tasks(), log or b""
        now_ms = await self._store.now_ms(self._keys.log)
        return TaskNews(self.board.take_tasks(tasks, now_ms), moves)

    def has_ended(self) -> bool:
        """Whether every task is completed or failed, or the run is closed."""
        return self.board.has_ended

    def nothing(self) -> TaskNews:
        """Return no changes."""
        return TaskNews([], [])
