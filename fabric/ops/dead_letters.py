"""Dead letters: refused signals and results with the reason, kept until somebody acts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from fabric.client.emitter import Emitter
from fabric.client.session import last_id
from fabric.errors import CallerError, NotAllowedError, NotFoundError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Partition
from fabric.store.port import ClientStore, Entry
from fabric.store.value import parse_id
from fabric.wire.record import sent_fields
from fabric.wire.stored import fields_of, pairs_of, text_fields_of

#: Letters read or sent again at a time.
PAGE = 256

#: Fields that name a signal's type, in the order of the spellings.
_TYPE_FIELDS = (b"type", b"signal", b"signal_type")


class Letter(NamedTuple):
    """A refused entry: the reason, its stream and id there, and its fields."""

    partition: int
    id: str
    code: str
    reason: str
    source: str
    entry: str
    fields: list[bytes]

    @property
    def ms(self) -> int:
        """Server time of the refusal, ms."""
        return parse_id(self.id.encode())[0]

    @property
    def type(self) -> str:
        """Type of the signal; "" if it named none."""
        return next((word for field in _TYPE_FIELDS if (word := self.field(field))), "")

    def matches(self, code: str | None, session: str | None) -> bool:
        """Whether it has this code and this session; None matches all."""
        return code in (None, self.code) and session in (None, self.field(b"session"))

    def field(self, name: bytes) -> str:
        """Return a field of the refused entry; "" if it had none of that name."""
        return fields_of(self.fields).get(name, b"").decode("utf-8", "replace")


class DeadLetters:
    """The dead letters of all partitions."""

    def __init__(self, store: ClientStore, partitions: int) -> None:
        self._store = store
        self._partitions = [store.namespace.partition(number) for number in range(partitions)]

    def label(self, letter: Letter) -> str:
        """Return the name of a letter: its id, after its partition if there are several."""
        return letter.id if len(self._partitions) == 1 else f"{letter.partition}/{letter.id}"

    async def count(self) -> int:
        """Return the number of letters."""
        return sum([await self._store.length(one.dead) for one in self._partitions])

    async def newest(self) -> AsyncIterator[Letter]:
        """Yield all letters, the newest of each partition first."""
        for partition in self._partitions:
            last = b"+"
            while page := await self._page(partition, b"-", last, newest_first=True):
                for letter in page:
                    yield letter
                last = b"(" + page[-1].id.encode()

    async def find(self, labels: Sequence[str]) -> list[Letter]:
        """Return the letters of these names. Raises NotFoundError, CallerError."""
        found = [await self._find(label) for label in labels]
        return list({(letter.partition, letter.id): letter for letter in found}.values())

    async def chosen(
        self, labels: Sequence[str], code: str | None, session: str | None
    ) -> AsyncIterator[list[Letter]]:
        """Yield the letters of these names; without names, all that match and are there now.

        Those come by partition, oldest first. Letters that come meanwhile are left out: a letter
        sent again may be refused again. Raises NotFoundError, CallerError.
        """
        if labels:
            yield await self.find(labels)
            return
        for partition in self._partitions:
            newest = await last_id(self._store, partition.dead)
            first = b"-"
            while page := await self._page(partition, first, newest):
                if chosen := [letter for letter in page if letter.matches(code, session)]:
                    yield chosen
                first = b"(" + page[-1].id.encode()

    async def retry(self, letters: list[Letter], emitter: Callable[[int], Emitter]) -> list[str]:
        """Send letters again to where they came from, then remove them; return their new ids.

        In this order no letter is lost: after a failure between the two it is there twice. A signal
        loses its sequence number: its agent has sent later ones, so the old number would make it a
        repeat. A result keeps its log id, which orders it and makes sure that it is folded once.
        Raises NotAllowedError for a letter that contains nothing to send.
        """
        waiting: dict[tuple[int, str], list[Letter]] = {}
        for letter in letters:
            waiting.setdefault((letter.partition, self._reader(letter)), []).append(letter)
        ids: dict[tuple[int, str], str] = {}
        for (number, group), chosen in sorted(waiting.items()):
            is_result = group == SYNTHESIZERS
            for start in range(0, len(chosen), PAGE):
                part = chosen[start : start + PAGE]
                entries = [one.fields if is_result else _unnumbered(one.fields) for one in part]
                sent = await emitter(number).send(entries, numbered=is_result, group=group)
                await self._remove(number, part)
                for letter, entry_id in zip(part, sent, strict=True):
                    ids[number, letter.id] = entry_id.decode()
        return [ids[letter.partition, letter.id] for letter in letters]

    def _reader(self, letter: Letter) -> str:
        """Return the group of workers that refused a letter. Raises NotAllowedError."""
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            source = self._partitions[letter.partition].source(group)
            if letter.fields and letter.source == source:
                return group
        raise NotAllowedError(f"letter {self.label(letter)} contains no signal to send again")

    async def discard(self, letters: list[Letter]) -> None:
        """Remove letters for good."""
        for number in {letter.partition for letter in letters}:
            await self._remove(number, [one for one in letters if one.partition == number])

    async def _remove(self, number: int, letters: list[Letter]) -> None:
        ids = [one.id.encode() for one in letters]
        await self._store.delete_entries(self._partitions[number].dead, ids)

    async def _find(self, label: str) -> Letter:
        place, separator, entry_id = label.rpartition("/")
        try:
            parse_id(entry_id.encode())
            partitions = [p for p in self._partitions if not separator or p.number == int(place)]
        except ValueError:
            text = f"'{label}' is not the id of a letter (fabric dead lists them)"
            raise CallerError(text) from None
        found: list[Letter] = []
        for partition in partitions:
            found += await self._page(partition, entry_id.encode(), entry_id.encode())
        if not found:
            raise NotFoundError(f"no dead letter {label}")
        if len(found) > 1:
            names = ", ".join(map(self.label, found))
            raise CallerError(f"several dead letters have the id {label}: name one of {names}")
        return found[0]

    async def _page(
        self, partition: Partition, first: bytes, last: bytes, *, newest_first: bool = False
    ) -> list[Letter]:
        key = partition.dead
        entries = await self._store.entries(key, first, last, PAGE, newest_first=newest_first)
        return [_letter(partition.number, entry) for entry in entries]


def _letter(partition: int, entry: Entry) -> Letter:
    entry_id, flat = entry
    # The fields of the refused entry have a prefix: none can pass for one of these.
    known = text_fields_of(flat)
    code, reason, source, of = (known.get(name, "") for name in ("code", "reason", "source", "id"))
    return Letter(partition, entry_id.decode(), code, reason, source, of, sent_fields(flat))


def _unnumbered(fields: list[bytes]) -> list[bytes]:
    pairs = pairs_of(fields)
    return [item for name, value in pairs if name != b"seq" for item in (name, value)]
