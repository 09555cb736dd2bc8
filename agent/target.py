"""What a request's target means: the path as Go's router reads it, its route, its query string."""

from __future__ import annotations

import posixpath
from urllib.parse import quote

from core.api.endpoint import Query, Route, unescape
from core.api.router import Router


class Target:
    """The meaning of the bytes of a target. Nothing about it depends on the rest of the request.

    `route` None: `location` says where to go instead, else `status` and `text` are the answer. `query`
    None: the query string is broken. Made once for every target that is asked often (`Front.target`)."""

    __slots__ = (
        *("blocked", "location", "namespace", "path", "pretty", "query"),
        *("rest", "route", "status", "text", "token"),
    )

    def __init__(self, url: bytes, router: Router, block_endpoints: tuple[str, ...]) -> None:
        target, mark, query = _origin_form(url).partition(b"?")
        self.route: Route | None = None
        self.query: Query | None = None
        self.rest = self.token = self.location = ""
        self.pretty = self.blocked = self.namespace = False  # namespace: one is asked for where there can be
        self.status = 404
        self.text: bytes | None = None
        try:
            self.path = unescape(target, plus=False)
        except ValueError:
            self.path, self.status, self.text = "", 400, b"400 Bad Request"
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
        self.namespace = self.route.namespaced and bool(self.query.get("ns"))


def _origin_form(url: bytes) -> bytes:
    """A target without `http://host`, which a server must take too (RFC 9112, 3.2.2)."""
    if url[:1] == b"/" or not url[:8].lower().startswith((b"http://", b"https://")):
        return url
    rest = url.partition(b"://")[2]
    begin = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    path = rest[begin:]
    return path if path.startswith(b"/") else b"/" + path


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
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _location(path: str, query: bytes) -> str:
    return quote(path.encode("utf-8", "surrogateescape"), safe="/~!$&'()*+,;=:@-._") + query.decode("latin-1")
