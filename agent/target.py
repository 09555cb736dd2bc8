"""What a request's target means: the path as Go's router reads it, its route, its query string."""

from __future__ import annotations

import posixpath
from urllib.parse import quote

from core.api.endpoint import Query, Route, unescape
from core.api.router import Router


class Target:
    """The meaning of the bytes of a target. Nothing about it depends on the rest of the request.

    `route` None: `location` says where to go instead, else `status` is the answer. `query` None: the
    query string is broken. Made once for every target that is asked often (`Front.target`)."""

    __slots__ = ("blocked", "location", "path", "pretty", "query", "rest", "route", "status", "token")

    def __init__(self, url: bytes, router: Router, block_endpoints: tuple[str, ...]) -> None:
        target, mark, query = url.partition(b"?")
        self.route: Route | None = None
        self.query: Query | None = None
        self.rest = self.token = self.location = ""
        self.pretty = self.blocked = False
        self.status = 404
        try:
            self.path = unescape(target, plus=False)
        except ValueError:
            self.path, self.status = "", 400
            return
        if not _printable(self.path):
            self.status = 400
            return
        clean = _clean(self.path)
        if clean != self.path:
            self.location = _location(clean, mark + query)
            return
        self.blocked = bool(block_endpoints) and self.path.startswith(block_endpoints)
        found = router.find(self.path)
        if found is None:
            if router.wants_slash(self.path):
                self.location = _location(self.path + "/", mark + query)
            return
        self.route, self.rest = found
        try:
            self.query = Query(query)
        except ValueError:
            return
        self.pretty = self.query.has("pretty")
        self.token = self.query.get("token")


def _printable(path: str) -> bool:
    """Whether every character prints; bytes that are no UTF-8 count as U+FFFD, as in Go."""
    return path.isprintable() or (
        path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").isprintable()
    )


def _clean(path: str) -> str:
    """Go's path cleaning: no empty, `.` or `..` elements; a trailing slash stays."""
    if "//" not in path and "/." not in path:
        return path
    clean = posixpath.normpath(path)
    if clean.startswith("//"):
        clean = clean[1:]
    return clean + "/" if path.endswith(("/", "/.", "/..")) and clean != "/" else clean


def _location(path: str, query: bytes) -> str:
    return quote(path.encode("utf-8", "surrogateescape"), safe="/~!$&'()*+,;=:@-._") + query.decode("latin-1")
