"""Agents for all clients: one that lets everybody do everything, one that wants tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import Agent

ROOT_TOKEN = "5d1b0a35-8a9c-4c6e-9a43-5f1c9a7f6d10"
GUARDED = {
    "primary_datacenter": "dc1",
    "acl": {
        "enabled": True,
        "default_policy": "deny",
        # The older libraries send no token with some calls: those take the agent's own.
        "tokens": {"master": ROOT_TOKEN, "agent": ROOT_TOKEN, "default": ROOT_TOKEN},
    },
}


@pytest.fixture(scope="module", params=["open", "guarded"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent without and one with access control; `home.token` may do everything."""
    guarded = request.param == "guarded"
    folder = tmp_path_factory.mktemp(request.param)
    config = GUARDED if guarded else {}
    with Agent(folder, config=config, token=ROOT_TOKEN if guarded else "") as running:
        yield running
