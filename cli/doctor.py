"""`ctl doctor`: look at everything that usually goes wrong, one line each, with what to change."""

from __future__ import annotations

import sys

from cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.call import Call
    from cli.doctorfacts import Facts, Finding

    Check = Callable[[Facts], Iterator[Finding]]


def doctor(call: Call) -> int:
    """`doctor`: 1 when something FAILs."""
    from cli.doctorfacts import FAIL

    report = Report(call)
    for finding in _findings(call):
        report.add(finding)
    report.end()
    return 1 if any(finding.status == FAIL for finding in report.findings) else 0


def _checks() -> tuple[Check, ...]:
    from cli import doctorcerts, doctorcluster, doctorgossip, doctorrpc

    return (
        doctorcluster.check_leader,
        doctorcluster.check_peers,
        doctorcluster.check_address,
        doctorgossip.check_gossip,
        doctorgossip.check_keys,
        doctorrpc.check_rpc,
        doctorcerts.check_certificates,
        doctorcluster.check_clock,
        doctorcluster.check_disk,
        doctorcluster.check_versions,
    )


def _findings(call: Call) -> Iterator[Finding]:
    """The agent first: without it only its files can be looked at."""
    from cli.client import TransportError
    from cli.doctorfacts import FAIL, OK, Finding, gather

    try:
        facts = gather(call)
    except TransportError as error:
        place = call.client.place
        where = f"unix://{place.unix}" if place.unix else place.authority
        if error.kind == "denied":
            yield Finding(FAIL, "agent", f"{where}: {error}", "give a token with agent:read and node:read")
        else:
            fix = "start it (`ctl agent start`), or say where it is with -http-addr or CTL_HTTP_ADDR"
            yield Finding(FAIL, "agent", f"{where} does not answer: {error}", fix)
        yield from _of_files(call)
        return
    kind = "server" if facts.is_server else "client agent"
    yield Finding(OK, "agent", f"{facts.node}, {kind} of {facts.datacenter}, answers")
    for check in _checks():
        yield from check(facts)


def _of_files(call: Call) -> Iterator[Finding]:
    """What the configuration alone shows, if one is given."""
    from cli.doctorcerts import check_certificates
    from cli.doctorcluster import check_disk
    from cli.doctorfacts import gather_from_files

    facts = gather_from_files(call)
    if facts is not None:
        yield from check_certificates(facts)
        yield from check_disk(facts)


class Report:
    """Lines as they come, or one document at the end."""

    STYLES = {"ok": "32", "warn": "33", "FAIL": "1;31", "skip": "2"}
    COLUMNS = 12  # of the name of a check

    def __init__(self, call: Call) -> None:
        self.call = call
        self.findings: list[Finding] = []
        self._coloured = False
        self._width = 0
        if call.out.format == "table":
            from cli.terminal import colour, width

            self._coloured, self._width = colour(call.values), width()

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)
        if self.call.out.structured or (self.call.out.quiet and finding.status in ("ok", "skip")):
            return
        status = finding.status.ljust(4)
        if self._coloured:
            status = f"\x1b[{self.STYLES[finding.status]}m{status}\x1b[0m"
        lines = self._wrapped(finding.text)
        indent = " " * (4 + 2 + self.COLUMNS + 2)
        self.call.out.line(f"{status}  {finding.check.ljust(self.COLUMNS)}  {lines[0]}")
        for line in lines[1:]:
            self.call.out.line(indent + line)
        if finding.fix:
            first, *rest = self._wrapped(finding.fix, 3)
            self.call.out.line(f"{indent}-> {first}")
            for line in rest:
                self.call.out.line(f"{indent}   {line}")
        sys.stdout.flush()

    def _wrapped(self, text: str, more: int = 0) -> list[str]:
        """`text` in lines that fit; on a terminal only."""
        room = self._width - (4 + 2 + self.COLUMNS + 2) - more
        if not self._width or len(text) <= room:
            return [text]
        import textwrap

        return textwrap.wrap(text, max(room, 30), break_long_words=False, break_on_hyphens=False)

    def end(self) -> None:
        counts = {status: sum(f.status == status for f in self.findings) for status in self.STYLES}
        if self.call.out.structured:
            self.call.out.document(
                {
                    "Healthy": not counts["FAIL"],
                    "Findings": [
                        {"Status": f.status, "Check": f.check, "Text": f.text, "Fix": f.fix}
                        for f in self.findings
                    ],
                }
            )
        elif not self.call.out.quiet:
            numbers = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            self.call.out.line(f"\n{numbers}")


COMMANDS = (
    Command(
        "doctor",
        "Check an agent and its ways to the others; exit code 1 when something is wrong",
        doctor,
        flags=(
            Flag("config-file", "list", "Go by the TLS settings of this file (repeat).", complete="files"),
            Flag("config-dir", "list", "The same for a directory (repeat).", complete="files"),
        ),
        text="Run it on the agent's machine, as a user who may read its data directory and its keys: what\n"
        "it may not read it skips, and says so. It sends pings and one empty call to each server; nothing\n"
        "is changed. For each FAIL it says which side, which rule, and what to change. With configuration\n"
        "files, the certificates are looked at even when no agent runs.",
        example=("ctl doctor", "ctl doctor --quiet", "ctl doctor -o json -config-dir /etc/ctl.d"),
    ),
)
