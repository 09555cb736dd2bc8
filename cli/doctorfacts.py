"""What `ctl doctor` goes by: one agent's word on itself and its members, and its configuration."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from cli.client import TransportError, error_text
from cli.command import Failure
from core.errors import ConfigError

if TYPE_CHECKING:
    from cli.call import Call

OK, WARN, FAIL, SKIP = "ok", "warn", "FAIL", "skip"
ALIVE, LEFT, FAILED = 1, 3, 4  # core/gossip/member.py


class Finding(NamedTuple):
    """What one check found. `fix` says which side and what to change."""

    status: str
    check: str
    text: str
    fix: str = ""


class Server(Struct):
    """A server as gossip shows it."""

    name: str
    id: str
    address: str
    port: int  # RPC
    serf_port: int
    status: int
    datacenter: str
    rpc: str  # what the agent itself says of calls to it


class Facts(Struct, kw_only=True):
    """All that the checks look at. `settings` are under the names of DebugConfig."""

    call: Any
    settings: dict[str, Any]
    about: dict[str, Any]
    members: list[dict[str, Any]]
    local: bool  # the agent runs on this machine
    date: str = ""  # the Date header of an answer, and when it came
    date_seen: float = 0.0

    @property
    def node(self) -> str:
        return str(self.about["Config"]["NodeName"])

    @property
    def datacenter(self) -> str:
        return str(self.about["Config"]["Datacenter"])

    @property
    def is_server(self) -> bool:
        return bool(self.about["Config"]["Server"])

    @property
    def domain(self) -> str:
        return str(self.settings.get("DNSDomain") or "consul").strip(".")

    @property
    def encrypted(self) -> bool:
        """Whether gossip is encrypted."""
        return bool(self.about.get("Stats", {}).get("serf_lan", {}).get("encrypted") == "true")

    def tls(self, name: str) -> Any:
        """A setting of TLS between agents, `CAFile` or `VerifyOutgoing`."""
        return self.settings.get("TLSInternalRPC" + name)

    @property
    def encrypts_calls(self) -> bool:
        """Whether the agent calls servers with TLS (protocols/rpc.md section 1)."""
        return bool(self.tls("VerifyOutgoing") or self.tls("VerifyServerHostname"))

    @property
    def own(self) -> dict[str, Any] | None:
        """The agent's own member."""
        return next((member for member in self.members if member["Name"] == self.node), None)

    @property
    def servers(self) -> list[Server]:
        return [_server(member) for member in self.members if member["Tags"].get("role") == "consul"]


def _server(member: dict[str, Any]) -> Server:
    tags = member["Tags"]
    port = tags.get("port", "")
    return Server(
        name=member["Name"],
        id=tags.get("id", ""),
        address=member["Addr"],
        port=int(port) if port.isdigit() else 8300,
        serf_port=member["Port"],
        status=member["Status"],
        datacenter=tags.get("dc", ""),
        rpc=str((member.get("Ctl") or {}).get("RPC", "")),
    )


def gather(call: Call) -> Facts:
    """Ask the agent. TransportError when there is none."""
    import time

    response = call.client.get("/v1/agent/self").checked()
    seen = time.time()
    about = response.json()
    settings = dict(about.get("DebugConfig") or {})
    given = settings_of_files(call, settings.get("DataDir") or "")
    settings |= {
        name: value for name, value in given.items() if name.startswith("TLS") or name == "DNSDomain"
    }
    members = call.client.get("/v1/agent/members").checked().json()
    return Facts(
        call=call,
        settings=settings,
        about=about,
        members=members,
        local=_is_here(call, about, settings),
        date=response.headers.get("date", ""),
        date_seen=seen,
    )


def gather_from_files(call: Call) -> Facts | None:
    """What can be known without an agent; None when no configuration is given."""
    settings = settings_of_files(call)
    if not settings:
        return None
    config = {
        "NodeName": settings.get("NodeName", ""),
        "Datacenter": settings.get("Datacenter", ""),
        "Server": settings.get("ServerMode", False),
    }
    return Facts(call=call, settings=settings, about={"Config": config}, members=[], local=True)


def settings_of_files(call: Call, data_dir: str = "") -> dict[str, Any]:
    """The configuration of -config-file and -config-dir under the names of DebugConfig; empty without."""
    from agent.configfiles import load_config
    from core.config.flags import Flags

    paths = [*call.many("config-file"), *call.many("config-dir")]
    if not paths:
        return {}
    values = {"data_dir": data_dir} if data_dir else {}
    try:
        return load_config(Flags(values, paths)).to_debug()
    except ConfigError as error:
        raise Failure(f"Error: {error}") from None


def _is_here(call: Call, about: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the agent's files are on this machine: the node id in its data directory is its own."""
    try:
        kept = (Path(settings.get("DataDir") or "/nonexistent") / "node-id").read_text().strip()
    except OSError:
        return bool(call.client.place.unix)
    return bool(kept == about["Config"].get("NodeID", kept))


def gossip_keys(facts: Facts) -> tuple[list[bytes], str]:
    """The keys of the agent's LAN keyring, primary first, or why they cannot be had."""
    path = os.path.join(facts.settings.get("DataDir") or "", "serf", "local.keyring")
    if not facts.local:
        return [], "the agent runs elsewhere, so its keyring cannot be read"
    try:
        with open(path, "rb") as file:
            return [base64.b64decode(key) for key in json.load(file)], ""
    except OSError as error:
        return [], f"{path}: {error_text(error)}"
    except (ValueError, TypeError) as error:
        return [], f"{path}: {error}"


def fetch(facts: Facts, path: str, *query: tuple[str, str]) -> tuple[Any, str]:
    """A decoded answer, or the reason why there is none."""
    try:
        return facts.call.client.get(path, query).checked().json(), ""
    except TransportError as error:
        return None, str(error)
