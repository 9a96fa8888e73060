"""Keeps a board up to date with its session until the session has ended. Only reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fabric.client.history import ReadHistory
from fabric.client.session import Session, pages, still_open
from fabric.errors import NotFoundError, UnavailableError, UnreachableError
from fabric.ops.questions import questions
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore
from fabric.view.timeline import Row
from fabric.watch.board import Board

#: Log entries that are read of what happened before.
PAST_ENTRIES_MAX = 500

#: Time between two readings, s: at least this, and at least so many times what a reading takes,
#: so that those who watch a fleet of thousands do not keep the server busy.
READ_S_MIN = 0.1
READ_SHARE = 2

#: The session has ended when all agents have ended and nothing came for so long, s: when the
#: synthesis is final, and when it is not (no synthesizer may be at work).
FINAL_S, QUIET_S = 0.3, 10.0

Show = Callable[[Board, list[Row]], None]


class Follower:
    """Reads a session into a board: what is new since the last reading."""

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

    async def read(self) -> list[Row]:
        """Bring the board up to date; return the new rows. After an error, read again.

        Raises NotFoundError if the session is gone.
        """
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
        self.board.take_records(
            await self._session.agents(),
            await self._session.claims(),
            await self._session.barriers(),
            await questions(self._session),
        )
        rows, self._rows = self._rows, []
        return rows

    async def until_ended(self, show: Show, *, stay: bool = False) -> None:
        """Read and show, through outages, until the session has ended; with `stay` for ever."""
        while True:
            begun_s = time.monotonic()
            try:
                rows = await self.read()
                self.board.trouble = ""
            except (UnreachableError, UnavailableError):
                rows, self.board.trouble = [], "the server does not answer: trying again"
            show(self.board, rows)
            if not stay and self._has_ended():
                return
            took_s = time.monotonic() - begun_s
            await asyncio.sleep(max(READ_S_MIN, READ_SHARE * took_s))

    def _has_ended(self) -> bool:
        limit_s = FINAL_S if self.board.growth.is_final else QUIET_S
        quiet_s = time.monotonic() - self._news_s
        return self.board.has_ended and not self.board.trouble and quiet_s >= limit_s

    async def _begin(self) -> bytes:
        """Give the board the newest log entries; return the id of the last one."""
        (opened,) = await self._store.fields(self._keys.meta, ["opened_ms"])
        streams = {name: agent.stream for name, agent in (await self._session.agents()).items()}
        past = await self._store.entries(
            self._keys.log, b"-", b"+", PAST_ENTRIES_MAX, newest_first=True
        )
        self.board.begin(int(opened) if opened and opened.isdigit() else 0, streams)
        self.board.take_log(reversed(past))
        return past[0][0] if past else BEGINNING

    async def _read_revisions(self) -> None:
        board = self.board
        try:
            async for revision in self._session.revisions(board.growth.revision, follow=False):
                made_ms = max(0, revision.ms - board.opened_ms)
                seen_ms = made_ms
                if self._opened_s < float("inf"):
                    seen_ms = max(made_ms, round((time.monotonic() - self._opened_s) * 1000))
                board.growth.take(revision, seen_ms, made_ms)
                self._news_s = time.monotonic()
        except NotFoundError:  # somebody has trimmed some of them
            synthesis = await self._session.synthesis()
            board.growth.begin_at(synthesis, board.at_ms)
