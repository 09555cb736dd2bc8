"""`ctl login` and `ctl logout`: a token for a credential that others vouch for."""

from __future__ import annotations

import contextlib
import os

from cli.aclcommon import Saying, acl_command, encoded, post
from cli.command import Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call

_TOKENS = ("CTL_HTTP_TOKEN", "CTL_HTTP_TOKEN_FILE", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE")


def login(call: Call) -> int:
    """`login`: write the secret of a new token to the sink file."""
    from cli.client import Client

    _no_arguments(call)
    for flag in ("method", "token-sink-file", "bearer-token-file"):
        if not call.text(flag):
            raise Usage(f"Missing required '-{flag}' flag")
    document = {"AuthMethod": call.text("method"), "BearerToken": _bearer_token(call)}
    body = encoded({**document, "Meta": call.pairs("meta")} if call.pairs("meta") else document)
    # A token from before, maybe expired, must not stand in the way of a new one.
    flags = {name: value for name, value in call.values.items() if name not in ("token", "token-file")}
    environ = {name: value for name, value in os.environ.items() if name not in _TOKENS}
    with Saying("Error logging in"):
        answer = Client(flags, environ).request("POST", "/v1/acl/login", call.query(), body).checked()
    _write_sink(call.text("token-sink-file"), answer.json()["SecretID"])
    return 0


def _no_arguments(call: Call) -> None:
    if call.arguments:
        raise Usage("Should have no non-flag arguments.")


def _bearer_token(call: Call) -> str:
    from cli.client import error_text

    path = call.text("bearer-token-file")
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except OSError as error:
        raise Failure(f"open {path}: {error_text(error)}") from None
    except UnicodeDecodeError:
        raise Failure(f"{path} holds no token: it is not UTF-8 text") from None
    if not token:
        raise Failure(f"No bearer token found in {path}")
    return token


def _write_sink(path: str, secret: str) -> None:
    """Replace the file at once, readable by its owner alone: who reads it never sees half a secret."""
    from cli.client import error_text

    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secret)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise Failure(f"Error writing token to file sink: {path}: {error_text(error)}") from None


def logout(call: Call) -> int:
    """`logout`: destroy the token in use."""
    _no_arguments(call)
    with Saying("Error destroying token"):
        post(call, "/v1/acl/logout", {})
    return 0


COMMANDS = (
    acl_command(
        "login",
        "Get a token for a credential of an auth method",
        login,
        flags=(
            Flag("method", "string", "Name of the auth method.", complete="acl-methods"),
            Flag("type", "string", "Kind of the method; not needed."),
            Flag("bearer-token-file", "string", "File with the credential.", complete="files"),
            Flag("token-sink-file", "string", "File to write the secret to.", complete="files"),
            Flag("meta", "map", "Metadata of the token, k=v (repeat)."),
        ),
        example=("ctl login -method=ci -bearer-token-file=job.jwt -token-sink-file=ctl.token",),
        text="Prints nothing. `-token-file` and CTL_HTTP_TOKEN_FILE of other commands take the sink file.",
        output=False,
        extra=True,
    ),
    acl_command(
        "logout",
        "Destroy the token that `login` got",
        logout,
        example=("ctl logout -token-file=ctl.token",),
        output=False,
        extra=True,
    ),
)
