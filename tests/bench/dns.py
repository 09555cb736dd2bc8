"""How many names a second: `dnsperf` against the DNS server and, in the same run, against a bare loop
that sends remembered packets and knows nothing else.

    python -m tests.bench.dns [--seconds 3] [--runs 3]

Medians, as ratios to the bare loop too, since absolute numbers mean little on another machine."""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HOST = "127.0.0.1"
QUESTIONS = {
    "A of 8 instances": "web.service.consul A",
    "SRV of 8 instances": "web.service.consul SRV",
    "node": "node1.node.consul A",
    "no such name": "none.service.consul A",
}
AIMS = {"A of 8 instances": 40_000, "SRV of 8 instances": 22_000, "node": 70_000}


async def serve_names() -> None:
    from agent.dns import DnsServer
    from agent.world import World
    from core.dns.settings import DnsSettings
    from tests.core.dns.maker import Maker

    maker = Maker()
    maker.many("web", 8)
    server = DnsServer(maker.store, DnsSettings(), World())
    await server.start([(HOST, 0)])
    print(server.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def serve_bare() -> None:
    """The least that a datagram responder on an event loop can do."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((HOST, 0))
    remembered: dict[bytes, bytes] = {}

    def drain() -> None:
        receive, send = sock.recvfrom, sock.sendto
        for _ in range(64):
            try:
                data, peer = receive(4096)
            except BlockingIOError:
                return
            answer = remembered.get(data[2:])
            if answer is None:
                header = b"\x85\x00\0\1\0\1\0\0\0\0"
                answer = header + data[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\0\0\1"
                remembered[data[2:]] = answer
            send(data[:2] + answer, peer)

    asyncio.get_running_loop().add_reader(sock.fileno(), drain)
    print(sock.getsockname()[1], flush=True)
    await asyncio.Event().wait()


def start(what: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.dns", "--serve", what],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit():
            return process, int(line)
    raise SystemExit(f"the {what} server did not start")


def dnsperf(port: int, question: str, seconds: float) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(question + "\n")
        file.flush()
        command = ["dnsperf", "-s", HOST, "-p", str(port), "-d", file.name, "-l", str(seconds), "-c", "4"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Queries per second:\s+([\d.]+)", out)
    lost = re.search(r"Queries lost:\s+(\d+)", out)
    if found is None or lost is None:
        raise SystemExit(f"dnsperf said:\n{out}")
    if int(lost.group(1)) > 100:
        print(f"{question}: {lost.group(1)} lost", file=sys.stderr)
    return float(found.group(1))


def measure(seconds: float, runs: int) -> dict[str, tuple[float, float]]:
    """Queries per second by question: (ours, the bare loop's), medians of runs that take turns."""
    ours, our_port = start("names")
    bare, bare_port = start("bare")
    rates: dict[str, tuple[float, float]] = {}
    try:
        for label, question in QUESTIONS.items():
            pairs = [
                (dnsperf(our_port, question, seconds), dnsperf(bare_port, question, seconds))
                for _ in range(runs)
            ]
            rates[label] = (
                statistics.median(pair[0] for pair in pairs),
                statistics.median(pair[1] for pair in pairs),
            )
    finally:
        for process in (ours, bare):
            process.terminate()
            process.wait()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", choices=["names", "bare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(serve_names() if options.serve == "names" else serve_bare())
    if shutil.which("dnsperf") is None:
        raise SystemExit("dnsperf is needed")
    print(f"{'':20}{'queries/s':>12}{'bare loop':>12}{'ratio':>8}{'aim':>10}")
    for label, (rate, bare) in measure(options.seconds, options.runs).items():
        aim = f"{AIMS[label]:,}" if label in AIMS else ""
        print(f"{label:20}{rate:>12,.0f}{bare:>12,.0f}{rate / bare:>8.2f}{aim:>10}")


if __name__ == "__main__":
    main()
