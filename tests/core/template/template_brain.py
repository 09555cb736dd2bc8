"""What template tests share: answers at hand, and one pass over them."""

from __future__ import annotations

from typing import Any

from core.template import deps
from core.template.deps import Dependency
from core.template.records import (
    CatalogSnippet,
    CatalogSnippets,
    HealthService,
    HealthServices,
    KeyPair,
    KeyPairs,
)
from core.template.render import MISSING, Environment, Rendered, load, render
from core.template.values import StringMap, Tags


class Answers(dict[Dependency, Any]):
    """A brain that knows what it was given."""

    def lookup(self, dependency: Dependency) -> Any:
        return self.get(dependency, MISSING)


def web(number: int, **fields: Any) -> HealthService:
    """An instance of the service web."""
    given = {
        "Node": f"n{number}",
        "NodeAddress": f"10.0.1.{number}",
        "Address": f"10.0.0.{number}",
        "ID": f"web{number}",
        "Name": "web",
        "Port": 8000 + number,
        "Status": "passing",
        "Tags": Tags(["a", f"t{number}"]),
        "ServiceMeta": StringMap(rank=str(number), zone="eu west"),
    }
    return HealthService(**{**given, **fields})


def pairs(prefix: str, **values: str) -> KeyPairs:
    """Pairs below `prefix`; `__` in names stands for `/`."""
    names = {name.replace("__", "/"): value for name, value in values.items()}
    return KeyPairs(KeyPair(Path=f"{prefix}/{key}", Key=key, Value=value) for key, value in names.items())


KNOWN = Answers(
    {
        deps.services(""): CatalogSnippets(
            [CatalogSnippet(Name="db", Tags=Tags()), CatalogSnippet(Name="web", Tags=Tags(["a", "b"]))]
        ),
        deps.service("web"): HealthServices([web(1), web(2)]),
        deps.service("web|any"): HealthServices([web(1), web(2), web(3, Status="critical")]),
        deps.service("db|any"): HealthServices(),
        deps.key("there"): KeyPair(Path="there", Key="there", Value="value"),
        deps.key("empty"): KeyPair(Path="empty", Key="empty", Value=""),
        deps.key("gone"): None,
        deps.prefix("app"): pairs("app", a="1", b__c="2", b__d__e="3", folder__=""),
        deps.prefix("none"): KeyPairs(),
        deps.FileDep("/etc/motd"): "hello\n",
        deps.FileDep("/etc/gone"): None,
    }
)


def once(text: str, name: str = "t", **surroundings: Any) -> Rendered:
    """One pass over what is known."""
    return render(load(name, text), KNOWN, Environment(**{"now": 1_700_000_000.123, **surroundings}))


def text_of(text: str, name: str = "t", **surroundings: Any) -> str:
    """The text of a pass that must be complete."""
    rendered = once(text, name, **surroundings)
    assert rendered.error is None, rendered.error
    assert rendered.missing == ()
    return rendered.text


def error_of(text: str, name: str = "t", **surroundings: Any) -> str:
    """The reason of a pass that must fail."""
    rendered = once(text, name, **surroundings)
    assert rendered.error is not None
    return rendered.error.reason
