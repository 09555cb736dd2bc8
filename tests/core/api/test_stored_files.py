"""Files of an agent's data directory, as Consul 1.9.8 writes them."""

from __future__ import annotations

import json
from typing import Any

from core.api.decode_stored import stored_service

SERVICE: dict[str, Any] = {
    "ID": "w1",
    "Service": "web",
    "Tags": ["t"],
    "Address": "",
    "Meta": {"a": "b"},
    "Port": 80,
    "Weights": {"Passing": 1, "Warning": 1},
    "EnableTagOverride": False,
    "Proxy": {"MeshGateway": {}, "Expose": {}},
    "Connect": {},
    "CreateIndex": 0,
    "ModifyIndex": 0,
}


def stored(**changes: Any) -> Any:
    file = {"Token": "secret", "Service": SERVICE | changes, "Source": "remote"}
    return stored_service(json.dumps(file).encode())


def test_a_service_without_a_part_in_the_mesh_has_none() -> None:
    """Else `/v1/agent/services` shows a Proxy that was never registered."""
    found = stored()
    assert (found.token, found.service.id, found.service.tags) == ("secret", "w1", ["t"])
    assert found.service.proxy is None and found.service.connect is None


def test_a_proxy_stays_one() -> None:
    proxy = {"DestinationServiceName": "web", "MeshGateway": {}, "Expose": {}}
    service = stored(Kind="connect-proxy", Proxy=proxy, Connect={"Native": True}).service
    assert service.proxy is not None and service.proxy["DestinationServiceName"] == "web"
    assert service.connect is not None and service.connect["Native"] is True
