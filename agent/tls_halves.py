"""Ending one direction of a TLS connection, as Go's programs do (`tls.Conn.CloseWrite`): a close_notify says
that no more is sent, and the answer still comes (RFC 8446, section 6.1). Consul's requests for archives do.

asyncio takes a close_notify for the end of the whole connection. On a connection for archives it does not get
to see it; that one ends when its work is done, or when TCP ends."""

from __future__ import annotations

import ssl
from asyncio import WriteTransport
from typing import Any


def halves(held: int | None) -> type[ssl.SSLObject]:
    """For a context's `sslobject_class`: connections of which one direction may end first. Those whose first
    byte inside is `held` outlive the other side's close_notify."""

    class Halves(ssl.SSLObject):
        _begun = _held = False

        def read(self, *args: Any) -> Any:
            found: Any
            try:
                found = super().read(*args)
            except ssl.SSLZeroReturnError:  # (and no bytes, when our own direction has not ended yet)
                found = 0 if len(args) > 1 else b""
            if found and not self._begun:
                self._begun = True
                self._held = (args[1] if len(args) > 1 else found)[0] == held
            if not found and self._held:
                raise ssl.SSLWantReadError("the other side has ended its direction")
            return found

    return Halves


def end_direction(transport: WriteTransport) -> None:
    """Say that no more is written; what comes is still read."""
    inside: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if inside is None:
        transport.write_eof()
        return
    try:
        inside.unwrap()
    except ssl.SSLWantReadError:  # for the other side's close_notify, which nobody waits for
        transport.writelines([])  # sends what is waiting inside
