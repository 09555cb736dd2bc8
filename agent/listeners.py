"""Opens what the configuration says to listen on: HTTP, HTTPS, the Unix sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.world import errno_text
from core.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from agent.http import HttpServer
    from agent.logs import Logger
    from core.config.addresses import Listener
    from core.config.settings import Config

_OWN_MODE = 0o600
_WARN_DAYS = 30


def default_socket() -> Path:
    """Where the command line looks for the agent of this user (cli/client.py)."""
    import warnings

    import platformdirs

    with warnings.catch_warnings():  # it warns on standard error where XDG_RUNTIME_DIR is not set
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path("ctl") / "ctl.sock"


class Listeners:
    """The HTTP listeners of one agent. Unix sockets that it made are removed when it stops."""

    def __init__(self, server: HttpServer, config: Config, logger: Logger, wall: Callable[[], float]) -> None:
        self._server = server
        self._config = config
        self._log = logger
        self._wall = wall
        self._sockets: list[str] = []
        self._tls: ssl.SSLContext | None = None

    async def open(self, http: list[Listener], https: list[Listener]) -> None:
        """Listen for HTTP and HTTPS. ConfigError names the address that cannot be had."""
        for listener in http:
            await self._open(listener, "http")
        if not https:
            return
        from agent import settings, tls

        files = settings.https(self._config)
        if not files.complete:
            self._log.warn("HTTPS is not served: cert_file and key_file are needed", address=str(https[0]))
            return
        self._tls = tls.server_context(files)
        self._warn_of_expiry(files.cert_file)
        for listener in https:
            await self._open(listener, "https", self._tls)

    def reload(self, config: Config) -> None:
        """Read the certificates again: they may have been renewed under the same names."""
        self._config = config
        if self._tls is not None:
            from agent import settings, tls

            files = settings.https(config)
            if files.complete:
                tls.load(self._tls, files)
                self._warn_of_expiry(files.cert_file)

    def _warn_of_expiry(self, cert_file: str) -> None:
        from agent import tls

        left = tls.days_left(cert_file, self._wall())
        if left < _WARN_DAYS:
            self._log.warn("the certificate of HTTPS expires soon", file=cert_file, days=round(left, 1))

    async def _open(self, listener: Listener, protocol: str, context: object = None) -> None:
        try:
            if listener.path:
                if not await self._open_unix(listener.path, self._mode(), context):
                    raise ConfigError(
                        f"cannot listen for {protocol} on {listener}: another process answers there"
                    )
                self._own(listener.path)
            else:
                await self._server.listen_tcp(listener.host, listener.port, context)
        except OSError as error:
            raise ConfigError(f"cannot listen for {protocol} on {listener}: {errno_text(error)}") from None
        self._log.info("Started HTTP server", address=str(listener), protocol=protocol)

    async def open_default_socket(self) -> None:
        """The socket that the command line finds by itself. That it can't be had is only worth a warning:
        another agent of the same user may have it."""
        path = default_socket()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if await self._open_unix(str(path), _OWN_MODE, None):
                self._log.info("Started HTTP server", address=f"unix://{path}", protocol="http")
            else:
                self._log.warn("another agent serves the command line's socket", path=str(path))
        except OSError as error:
            self._log.warn("no socket for the command line", path=str(path), error=str(error))

    async def _open_unix(self, path: str, mode: int, context: object) -> bool:
        """Listen on a socket file; False when another process answers there. A dead file is replaced."""
        if _answers(path):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The file must never be open to others, not even between bind and chmod.
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        await self._server.listen_unix(sock, context)
        self._sockets.append(path)
        return True

    def _mode(self) -> int:
        text = self._config["unix_sockets.mode"]
        return int(text, 8) if text else _OWN_MODE

    def _own(self, path: str) -> None:
        user, group = self._config["unix_sockets.user"], self._config["unix_sockets.group"]
        if user or group:
            os.chown(path, _user_id(user) if user else -1, int(group) if group else -1)

    def remove_sockets(self) -> None:
        """Take the socket files away."""
        for path in self._sockets:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(path)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _user_id(text: str) -> int:
    """A user by number or name. ConfigError."""
    if text.isascii() and text.isdigit():
        return int(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ConfigError(f"failed to look up user {text}: unknown user {text}") from None
