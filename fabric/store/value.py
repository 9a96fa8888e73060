"""Values in keys that anyone can write to: stream ids, whole numbers, names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final
from zlib import crc32

from fabric.config.settings import PARTITIONS_MAX
from fabric.core.limits import ENTRY_FIELDS_MAX
from fabric.errors import CallerError, OverloadedError, TamperedError

#: Milliseconds and sequence number of a stream id.
Id = tuple[int, int]

#: Highest sequence number within a millisecond, and highest time.
SEQUENCE_MAX: Final = 2**64 - 1
#: The last id that there is.
LAST_ID: Final = b"%d-%d" % (SEQUENCE_MAX, SEQUENCE_MAX)

#: Bytes of an id: two numbers of 64 bits, and possibly leading zeros.
_ID_MAX = 60

#: None of our numbers comes near it: times in ms have 13 digits, with a priority added 17. Beyond a
#: float's range, the server would refuse it as a score in the middle of a commit.
NUMBER_LIMIT: Final = 10**18

#: Digits of such a number, with possible leading zeros.
_DIGITS_MAX = 40

#: Random numbers in a token epoch, and tokens that one has room for before the next.
TOKEN_CHANCES: Final = 1_024
TOKENS_MAX: Final = 2_048

#: Bytes of a wrong value that an error shows.
_SHOWN_BYTES_MAX = 40


def glob(prefix: str) -> str:
    """Return the pattern of SCAN for names that begin with a prefix, whatever is in it."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", prefix) + "*"


def parse_id(entry_id: bytes, sequence_default: int = 0) -> Id:
    """Parse `ms-seq`, or `ms` alone. Raises ValueError when a server would not accept it."""
    milliseconds, dash, sequence = entry_id.partition(b"-")
    if not milliseconds.isdigit() or (dash and not sequence.isdigit()) or len(entry_id) > _ID_MAX:
        raise ValueError("no id of an entry")
    found = int(milliseconds), int(sequence or sequence_default)
    if max(found) > SEQUENCE_MAX:
        raise ValueError("an id beyond 64 bits")
    return found


def token_chance(nonce: str) -> int:
    """Return the random number in the tokens of an epoch, from what no other attempt uses."""
    return crc32(nonce.encode()) % TOKEN_CHANCES


def token_epoch(before: int, now_ms: int, chance: int) -> int:
    """Return what the tokens after a change of servers are above; see acquire.lua."""
    timed = (now_ms // 1000 * TOKEN_CHANCES + chance) * TOKENS_MAX
    return max(timed, before + (1 + chance) * TOKENS_MAX)


def successor(entry_id: bytes) -> bytes:
    """Return the smallest stream id after the given one; after the largest, the same."""
    milliseconds, sequence = parse_id(entry_id)
    if sequence < SEQUENCE_MAX:
        return b"%d-%d" % (milliseconds, sequence + 1)
    return b"%d-0" % (milliseconds + 1) if milliseconds < SEQUENCE_MAX else entry_id


def is_last(entry_id: bytes) -> bool:
    """Whether an id is of the last millisecond that there is: after it come few ids, or none."""
    return entry_id.startswith(b"%d-" % SEQUENCE_MAX)


def check_entries(entries: Sequence[Sequence[bytes]]) -> None:
    """Refuse entries on which a script would fail after writing some. Raises CallerError."""
    for entry in entries:
        if not 0 < len(entry) <= 2 * ENTRY_FIELDS_MAX or len(entry) % 2:
            raise CallerError(
                f"an entry of {len(entry)} names and values: it needs pairs of them, "
                f"1 to {ENTRY_FIELDS_MAX}"
            )


def overloaded(
    key: str, held: int, entries_max: int, used_bytes: int, bytes_max: int
) -> OverloadedError:
    """Return the error for a full stream; `used_bytes` is 0 if its bytes are not the reason."""
    holds, allowed = f"{held} signals", f"{entries_max} are allowed"
    if used_bytes:
        holds, allowed = f"{holds} ({used_bytes} bytes)", f"{bytes_max} bytes are allowed"
    return OverloadedError(
        f"stream {key} holds {holds} that no worker has handled yet, {allowed}: is one running? "
        f"(fabric status)"
    )


def whole_number(value: bytes | None, limit: int = NUMBER_LIMIT) -> int | None:
    """Return the whole number, below a limit, in a field; None when it holds none."""
    if not value or not value.isdigit() or len(value) > _DIGITS_MAX:
        return None
    number = int(value)
    return number if number < limit else None


def parse_cursor(stored: bytes | None) -> list[bytes]:
    """Read a stored place: id in the inbox, id in the broadcast; the beginning if there is none."""
    ids = (stored or b"").split()
    with suppress(ValueError):
        if len(ids) == 2 and all(map(parse_id, ids)):
            return ids
    return [b"0-0", b"0-0"]


#: Outages that a lease remembers, as in acquire.lua: a session meets them at its next event, which
#: the timers of its agents bring soon.
OUTAGES_MAX = 16


def read_outages(value: bytes) -> tuple[tuple[int, int], ...]:
    """Return the outages that a lease names, as start and end in ms; skip what is none."""
    found = []
    for one in value.split():
        start, _, end = one.partition(b":")
        start_ms, end_ms = whole_number(start), whole_number(end)
        if start_ms is not None and end_ms is not None and start_ms < end_ms:
            found.append((start_ms, end_ms))
    return tuple(found)


def partition_count(key: str, value: bytes) -> int:
    """Return the number of partitions in a namespace's key. Raises TamperedError."""
    number = whole_number(value, PARTITIONS_MAX + 1)
    if not number:
        found = f"hash with partitions={value[:_SHOWN_BYTES_MAX]!r}"
        raise TamperedError(key, found, f"whole number up to {PARTITIONS_MAX} there")
    return number


def member_names(key: str, members: Iterable[bytes]) -> list[str]:
    """Return members of a sorted set as text. Raises TamperedError when one is not UTF-8."""
    try:
        return [member.decode() for member in members]
    except UnicodeDecodeError:
        raise TamperedError(key, "zset with a member that is no text", "zset of names") from None


def member_range(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return the ZRANGEBYLEX range of the members with a prefix that come after a name."""
    first = b"(" + after if after and after >= prefix else b"[" + prefix if prefix else b"-"
    # No text has the byte ff.
    return first, b"(" + prefix + b"\xff" if prefix else b"+"
