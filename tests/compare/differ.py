"""Where two answers differ, and how much a difference would hurt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.compare.normal import Plain

STATUS, HEADER, BODY, WORDS = "status", "header", "body", "words"


class Difference(NamedTuple):
    """`kind`: STATUS, HEADER, BODY, or WORDS where our error says the peer's words and then more."""

    kind: str
    where: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}\n    theirs: {self.theirs}\n    ours:   {self.ours}"


def differences(theirs: Plain, ours: Plain) -> list[Difference]:
    """All differences between two answers."""
    found = []
    if theirs.status != ours.status:
        found.append(Difference(STATUS, "", _told(theirs), _told(ours)))
    elif theirs.body != ours.body:
        found.append(_of_bodies(theirs, ours))
    found += _of_headers(theirs, ours)
    return found


def _told(answer: Plain) -> str:
    return f"{answer.status} {answer.body[:300]}".rstrip()


def _of_headers(theirs: Plain, ours: Plain) -> Iterator[Difference]:
    names = sorted({name for name, _ in (*theirs.headers, *ours.headers)})
    for name in names:
        pair = [[value for key, value in side.headers if key == name] for side in (theirs, ours)]
        if pair[0] != pair[1]:
            yield Difference(HEADER, name, ", ".join(pair[0]) or "(none)", ", ".join(pair[1]) or "(none)")


def _of_bodies(theirs: Plain, ours: Plain) -> Difference:
    if theirs.status >= 400 and theirs.body and ours.body.startswith(theirs.body):
        return Difference(WORDS, "", theirs.body, ours.body)
    try:
        pair = json.loads(theirs.body), json.loads(ours.body)
    except ValueError:
        return Difference(BODY, "", theirs.body[:1000], ours.body[:1000])
    path, left, right = _first(*pair)
    return Difference(BODY, path or "order of keys", left[:600], right[:600])


def _first(theirs: Any, ours: Any, path: str = "") -> tuple[str, str, str]:
    """Where two JSON values first differ, and what is there."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        for key, value in theirs.items():
            if value != ours[key]:
                return _first(value, ours[key], f"{path}.{key}")
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (left, right) in enumerate(zip(theirs, ours, strict=True)):
            if left != right:
                return _first(left, right, f"{path}[{number}]")
    return path, json.dumps(theirs), json.dumps(ours)
