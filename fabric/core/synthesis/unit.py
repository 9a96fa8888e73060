"""Units of measure that quantities are compared in: name → scale, factor, offset.

An amount in its scale's own unit is (number + offset) * factor. Names are as people write them;
where case does not tell two units apart, it does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple


class Unit(NamedTuple):
    """A unit: what it measures, how much of the scale's own unit it is, and where its 0 lies."""

    scale: str
    factor: Fraction
    offset: Fraction = Fraction()


_SI: Final = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "µ": Fraction(1, 10**6),
    "μ": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
}  # fmt: skip
#: Scales whose units take all of these prefixes.
_PREFIXED: Final = {
    "s": "time", "Hz": "frequency", "W": "power", "J": "energy", "V": "voltage", "A": "current",
    "Pa": "pressure", "N": "force", "l": "volume", "L": "volume", "eV": "electronvolts",
}  # fmt: skip
_WORDS: Final[Mapping[str, Mapping[str, Fraction | int]]] = {
    "time": {
        "sec": 1, "secs": 1, "second": 1, "seconds": 1, "min": 60, "mins": 60, "minute": 60,
        "minutes": 60, "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
        "d": 86_400, "day": 86_400, "days": 86_400, "week": 604_800, "weeks": 604_800,
        "millisecond": Fraction(1, 1000), "milliseconds": Fraction(1, 1000),
        "msec": Fraction(1, 1000), "usec": Fraction(1, 10**6),
    },
    "length": {
        "nm": Fraction(1, 10**9), "µm": Fraction(1, 10**6), "um": Fraction(1, 10**6),
        "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": 1, "km": 1000, "meter": 1,
        "meters": 1, "metre": 1, "metres": 1, "in": Fraction(254, 10_000),
        "ft": Fraction(3048, 10_000), "yd": Fraction(9144, 10_000),
        "mi": Fraction(1_609_344, 1000), "mile": Fraction(1_609_344, 1000),
        "miles": Fraction(1_609_344, 1000),
    },
    "mass": {
        "mg": Fraction(1, 1000), "g": 1, "kg": 1000, "t": 10**6, "gram": 1, "grams": 1,
        "kilograms": 1000, "oz": Fraction(45_359_237, 1_600_000),
        "lb": Fraction(45_359_237, 100_000), "lbs": Fraction(45_359_237, 100_000),
    },
    "bytes": {
        "B": 1, "byte": 1, "bytes": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9,
        "TB": 10**12, "PB": 10**15, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
        "bit": Fraction(1, 8), "bits": Fraction(1, 8),
    },
    "energy": {"Wh": 3600, "kWh": 3_600_000, "MWh": 3_600_000_000, "cal": Fraction(4184, 1000),
               "kcal": 4184},
    # A share is a plain number: 50 % is 0.5.
    "": {"%": Fraction(1, 100), "percent": Fraction(1, 100), "‰": Fraction(1, 1000),
         "k": 1000, "K": 1000, "thousand": 1000, "million": 10**6, "billion": 10**9},
}  # fmt: skip


def _units() -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    for unit, scale in _PREFIXED.items():
        for prefix, factor in _SI.items():
            found[prefix + unit] = Unit(scale, factor)
    for scale, names in _WORDS.items():
        for name, amount in names.items():
            found[name] = Unit(scale, Fraction(amount))
    zero = Fraction(27_315, 100)
    for name in ("°C", "celsius"):
        found[name] = Unit("temperature", Fraction(1), zero)
    for name in ("°F", "fahrenheit"):
        found[name] = Unit("temperature", Fraction(5, 9), Fraction(45_967, 100))
    found["kelvin"] = Unit("temperature", Fraction(1))
    # `mb` and `GHZ`: in lower case too, where no other unit is written so.
    lower: dict[str, set[Unit]] = {}
    for name, one in found.items():
        lower.setdefault(name.lower(), set()).add(one)
    return {name: next(iter(ones)) for name, ones in lower.items() if len(ones) == 1} | found


#: Name → unit; names in lower case too where these are not ambiguous.
UNITS: Final[Mapping[str, Unit]] = _units()
