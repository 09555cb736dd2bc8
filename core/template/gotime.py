"""Moments as text in the layouts of Go's package time, which are written as a reference moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime

RFC3339 = "2006-01-02T15:04:05Z07:00"

_PIECE = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|002|0[1-6]|15|_2(?!006)|__2|PM|pm"
    r"|Z07(?::?00(?::?00)?)?|-07(?::?00(?::?00)?)?|[.,](?:0+|9+)(?![0-9])|[1-5]"
)


def show(seconds: float, layout: str) -> str:
    """The moment `seconds` after the epoch, in UTC, by a layout."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return _PIECE.sub(lambda found: _piece(moment, found[0]), layout)


def _piece(moment: datetime, piece: str) -> str:
    day, hour = moment.day, moment.hour % 12 or 12
    if piece[0] in ".,":
        digits = f"{moment.microsecond:06}".ljust(len(piece) - 1, "0")[: len(piece) - 1]
        if piece[1] == "9":
            digits = digits.rstrip("0")
        return piece[0] + digits if digits else ""
    if piece[0] == "Z":
        return "Z"
    if piece[0] == "-":
        return "+" + piece[1:].replace("7", "0")
    plain = {
        "January": _MONTHS[moment.month - 1],
        "Jan": _MONTHS[moment.month - 1][:3],
        "Monday": _DAYS[moment.weekday()],
        "Mon": _DAYS[moment.weekday()][:3],
        "MST": "UTC",
        "2006": f"{moment.year:04}",
        "06": f"{moment.year % 100:02}",
        "1": str(moment.month),
        "01": f"{moment.month:02}",
        "2": str(day),
        "02": f"{day:02}",
        "_2": f"{day:2}",
        "002": f"{moment.timetuple().tm_yday:03}",
        "__2": f"{moment.timetuple().tm_yday:3}",
        "15": f"{moment.hour:02}",
        "3": str(hour),
        "03": f"{hour:02}",
        "4": str(moment.minute),
        "04": f"{moment.minute:02}",
        "5": str(moment.second),
        "05": f"{moment.second:02}",
        "PM": "PM" if moment.hour >= 12 else "AM",
        "pm": "pm" if moment.hour >= 12 else "am",
    }
    return plain[piece]


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
