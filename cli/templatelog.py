"""What the runner of templates says: lines with a level, on stderr, to a file, to syslog."""

from __future__ import annotations

import sys
from datetime import datetime

from cli.client import error_text
from cli.command import Failure
from core.template.settings import Settings

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERR")
EXIT_CONFIG = 15


class Log:
    """Lines of at least the level that the settings ask for."""

    def __init__(self, settings: Settings) -> None:
        level = {"ERROR": "ERR", "WARNING": "WARN"}.get(settings.log_level, settings.log_level)
        if level not in LEVELS:
            known = ", ".join(LEVELS)
            raise Failure(f'log_level: there is no level "{level}"; there are {known}', code=EXIT_CONFIG)
        self._least = LEVELS.index(level)
        self._syslog = settings.syslog
        if settings.syslog is not None:
            _open_syslog(*settings.syslog)
        try:
            self._file = open(settings.log_file, "a") if settings.log_file else None  # noqa: SIM115
        except OSError as error:
            raise Failure(f"log_file: {error_text(error)}", code=EXIT_CONFIG) from None

    def __call__(self, level: str, text: str) -> None:
        """Say something."""
        if LEVELS.index(level) < self._least:
            return
        moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
        line = f"{moment} [{level}] {text}\n"
        sys.stderr.write(line)
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        if self._syslog is not None:
            import syslog

            urgency = (
                syslog.LOG_DEBUG,
                syslog.LOG_DEBUG,
                syslog.LOG_INFO,
                syslog.LOG_WARNING,
                syslog.LOG_ERR,
            )
            syslog.syslog(urgency[LEVELS.index(level)], text)


def _open_syslog(facility: str, name: str) -> None:
    import syslog

    number = getattr(syslog, f"LOG_{facility.upper()}", None)
    if number is None:
        raise Failure(f'syslog: there is no facility "{facility}"', code=EXIT_CONFIG)
    syslog.openlog(name, syslog.LOG_PID, number)
