"""Services, checks and actions as an operator defines them: in files, through the HTTP API, on the
command line.

`core/config` (files) and `core/api/agent` (HTTP) both produce these; `agent/checks.py` runs them.
Durations are int nanoseconds, 0 = not given. reference/config.md sections 4 and 5."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from core.store.structs import ServiceAddress, Weights


class CheckDefinition(Struct, kw_only=True):
    """One check. Which kind it is follows from the fields that are set (`kind`)."""

    id: str = ""
    name: str = ""
    notes: str = ""
    service_id: str = ""
    token: str = ""
    status: str = ""
    args: list[str] = []
    http: str = ""
    header: dict[str, list[str]] = {}
    method: str = ""
    body: str = ""
    disable_redirects: bool = False
    tcp: str = ""
    tcp_use_tls: bool = False
    udp: str = ""
    grpc: str = ""
    grpc_use_tls: bool = False
    h2ping: str = ""
    h2ping_use_tls: bool = True
    os_service: str = ""
    docker_container_id: str = ""
    shell: str = ""
    alias_node: str = ""
    alias_service: str = ""
    ttl: int = 0
    interval: int = 0
    timeout: int = 0
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after: int = 0
    output_max_size: int = 0

    @property
    def kind(self) -> str:
        """Consul's check type: `script`, `docker`, `http`, `tcp`, `udp`, `grpc`, `h2ping`, `os_service`,
        `ttl`, `alias`, or `` when nothing says. The order is Consul's (CheckType.Type, 1.9.8: Type)."""
        if self.grpc:
            return "grpc"
        if self.http:
            return "http"
        if self.ttl:
            return "ttl"
        if self.tcp:
            return "tcp"
        if self.udp:
            return "udp"
        if self.alias_node or self.alias_service:
            return "alias"
        if self.docker_container_id:
            return "docker"
        if self.args:
            return "script"
        if self.h2ping:
            return "h2ping"
        if self.os_service:
            return "os_service"
        return ""


class ServiceDefinition(Struct, kw_only=True):
    """One service with its checks. `id` empty means `name`."""

    id: str = ""
    name: str = ""
    kind: str = ""
    tags: list[str] | None = None
    address: str = ""
    port: int = 0
    socket_path: str = ""
    meta: dict[str, str] | None = None
    tagged_addresses: dict[str, ServiceAddress] | None = None
    weights: Weights | None = None
    enable_tag_override: bool = False
    checks: list[CheckDefinition] = []
    token: str = ""
    proxy: dict[str, Any] | None = None
    connect: dict[str, Any] | None = None


ACTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ActionDefinition(Struct, frozen=True):
    """What `ctl exec NAME` runs on this agent. `user` empty: the agent's own. `parameters`: words of the
    caller follow `args`; no shell sees them unless `args` is one."""

    name: str
    args: tuple[str, ...]
    user: str = ""
    timeout: int = 60_000_000_000
    parameters: bool = False
