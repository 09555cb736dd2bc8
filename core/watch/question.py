"""What a watch asks the API, by its parameters (reference/watch.md section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode


class WatchQuestion(NamedTuple):
    """`subject` is what people call it; `path` and `query` are the API's."""

    kind: str
    subject: str
    path: str
    query: list[tuple[str, str]]

    def target(self, *more: tuple[str, str]) -> str:
        """The target of the request, escaped, with more parameters."""
        path = quote(self.path.encode("utf-8", "surrogateescape"), safe="/~!$&'()*+,;=:@")
        parameters = urlencode([*self.query, *more], encoding="utf-8", errors="surrogateescape")
        return f"{path}?{parameters}" if parameters else path


def question(parameters: Mapping[str, Any]) -> WatchQuestion:
    """The question of a watch whose parameters are of the right types and complete; those that its type
    does not know count for nothing."""
    kind = parameters["type"]
    query = [("filter", parameters["filter"])] if parameters.get("filter") else []
    if kind in ("key", "keyprefix"):
        subject = parameters["key" if kind == "key" else "prefix"].removeprefix("/")
        return WatchQuestion(kind, subject, f"/v1/kv/{subject}", [("recurse", "")] if kind != "key" else [])
    if kind == "service":
        query += [("tag", tag) for tag in _listed(parameters.get("tag"))]
        query += [("passing", "1")] if parameters.get("passingonly") else []
        return WatchQuestion(
            kind, parameters["service"], f"/v1/health/service/{parameters['service']}", query
        )
    if kind == "checks":
        if parameters.get("service"):
            return WatchQuestion(
                kind, parameters["service"], f"/v1/health/checks/{parameters['service']}", query
            )
        state = parameters.get("state") or "any"
        return WatchQuestion(kind, state, f"/v1/health/state/{state}", query)
    if kind == "event":
        query = [("name", parameters["name"])] if parameters.get("name") else []
        return WatchQuestion(kind, parameters.get("name") or "any", "/v1/event/list", query)
    return WatchQuestion(kind, kind, f"/v1/catalog/{kind}", query)


def _listed(value: str | Sequence[str] | None) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)
