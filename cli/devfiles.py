"""The configuration that the agents of `ctl dev cluster` share: gossip keys and certificates."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

from core.certs import create_authority, create_certificate

DAYS = 365


def write_settings(folder: Path, datacenter: str, *, encrypt: bool, tls: bool) -> list[str]:
    """Write what is wanted and not there yet into `folder`; the flags that make agents read it."""
    settings: dict[str, Any] = {}
    path = folder / "shared.json"
    if path.exists():
        return ["-config-file", str(path)]
    if encrypt:
        settings["encrypt"] = base64.b64encode(os.urandom(32)).decode()
    if tls:
        settings["tls"] = _certificates(folder, datacenter)
    if not settings:
        return []
    _write(path, json.dumps(settings, indent=2).encode() + b"\n")
    return ["-config-file", str(path)]


def _certificates(folder: Path, datacenter: str) -> dict[str, Any]:
    """One authority and one certificate that all agents use: good enough for a cluster of a day."""
    now = time.time()
    authority = create_authority(now, days=DAYS)
    name = f"server.{datacenter}.consul"
    pair = create_certificate(
        authority,
        now,
        days=DAYS,
        common_name=name,
        dns_names=(name, "localhost"),
        ip_addresses=("127.0.0.1",),
    )
    files = {"ca": authority.certificate, "cert": pair.certificate, "key": pair.key}
    for kind, data in files.items():
        _write(folder / f"{kind}.pem", data)
    _write(folder / "ca-key.pem", authority.key)
    return {
        "defaults": {f"{kind}_file": str(folder / f"{kind}.pem") for kind in files},
        "internal_rpc": {"verify_incoming": True, "verify_outgoing": True, "verify_server_hostname": True},
    }


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
