"""What `/v1/agent/host` tells of the machine, under gopsutil's names. Blocks on files: run it in a thread."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Any

_KIB = 1024


def facts(data_dir: str, wall: float) -> dict[str, Any]:
    """Memory, processors, host and the disk of `data_dir` (`/` without one). What this system does not
    tell is left out or zero. `wall` is Unix seconds."""
    return {
        "Memory": _memory(),
        "CPU": _processors(),
        "Host": _host(wall),
        "Disk": _disk(data_dir or "/"),
        "CollectionTime": int(wall * 1_000_000_000),
        "Errors": None,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _memory() -> dict[str, Any]:
    rows: dict[str, int] = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        rows[name] = int(value.split()[0]) * _KIB
    total, available = rows.get("MemTotal", 0), rows.get("MemAvailable", 0)
    if not total:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    used = total - available
    return {
        "total": total,
        "available": available,
        "used": used,
        "usedPercent": 100 * used / total,
        "free": rows.get("MemFree", 0),
        "active": rows.get("Active", 0),
        "inactive": rows.get("Inactive", 0),
        "buffers": rows.get("Buffers", 0),
        "cached": rows.get("Cached", 0),
        "swapTotal": rows.get("SwapTotal", 0),
        "swapFree": rows.get("SwapFree", 0),
    }


def _processors() -> list[dict[str, Any]]:
    processors = []
    for block in _read("/proc/cpuinfo").split("\n\n"):
        rows = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            rows[name.strip()] = value.strip()
        if "processor" in rows:
            processors.append(
                {
                    "cpu": int(rows["processor"]),
                    "vendorId": rows.get("vendor_id", ""),
                    "family": rows.get("cpu family", ""),
                    "model": rows.get("model", ""),
                    "physicalId": rows.get("physical id", ""),
                    "coreId": rows.get("core id", ""),
                    "cores": int(rows.get("cpu cores", "1")),
                    "modelName": rows.get("model name", ""),
                    "mhz": float(rows.get("cpu MHz", "0")),
                    "flags": rows.get("flags", "").split(),
                }
            )
    return processors or [{"cpu": number} for number in range(os.cpu_count() or 1)]


def _host(wall: float) -> dict[str, Any]:
    system = platform.uname()
    uptime = int(float((_read("/proc/uptime").split() or ["0"])[0]))
    release = dict(
        line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line and line[0] != "#"
    )
    return {
        "hostname": socket.gethostname(),
        "uptime": uptime,
        "bootTime": int(wall) - uptime,
        "procs": sum(entry.name.isdigit() for entry in os.scandir("/proc")) if os.path.isdir("/proc") else 0,
        "os": system.system.lower(),
        "platform": release.get("ID", system.system.lower()).strip('"'),
        "platformFamily": release.get("ID_LIKE", "").strip('"'),
        "platformVersion": release.get("VERSION_ID", "").strip('"'),
        "kernelVersion": system.release,
        "kernelArch": system.machine,
        "hostid": _read("/etc/machine-id").strip(),
    }


def _disk(path: str) -> dict[str, Any]:
    usage = shutil.disk_usage(path if os.path.exists(path) else "/")
    nodes = os.statvfs(path if os.path.exists(path) else "/")
    return {
        "path": path,
        "total": usage.total,
        "free": usage.free,
        "used": usage.used,
        "usedPercent": 100 * usage.used / usage.total if usage.total else 0.0,
        "inodesTotal": nodes.f_files,
        "inodesUsed": nodes.f_files - nodes.f_ffree,
        "inodesFree": nodes.f_ffree,
    }
