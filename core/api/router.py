"""Finds the route of a path."""

from __future__ import annotations

from collections.abc import Iterable

from core.api.endpoint import Route


class Router:
    """Finds the route of a path: the exact one, else the longest that ends in `/` and begins the path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._prefixes: dict[str, Route] = {}
        for route in routes:
            table = self._prefixes if route.path.endswith("/") and route.path != "/" else self._exact
            if route.path in table:
                raise ValueError(f"route {route.path} is declared twice")
            table[route.path] = route
        self._depth = max((path.count("/") for path in self._prefixes), default=0)
        # Prefixes that no other one extends: the first of them that fits is the longest.
        self._final = {
            path
            for path in self._prefixes
            if not any(o != path and o.startswith(path) for o in self._prefixes)
        }

    def find(self, path: str) -> tuple[Route, str] | None:
        """The route of an unescaped path and what follows it (a key, a name), None when there is none."""
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        found: tuple[Route, str] | None = None
        end = 3 if path.startswith("/v1/") else -1
        for _ in range(self._depth):
            end = path.find("/", end + 1)
            if end < 0:
                break
            prefix = path[: end + 1]
            route = self._prefixes.get(prefix)
            if route is not None:
                found = route, path[end + 1 :]
                if prefix in self._final:
                    break
        return found

    def wants_slash(self, path: str) -> bool:
        """Whether `path` is only known with a `/` behind it (Go's router redirects those)."""
        return path + "/" in self._prefixes
