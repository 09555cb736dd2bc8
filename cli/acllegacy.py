"""Rules from the time before policies, in today's words."""

from __future__ import annotations

from cli.command import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call


def translated(rules: str) -> str:
    """The same rights in today's syntax. Failure on rules that cannot be parsed."""
    from core.acl.translate import translate
    from core.errors import CtlError

    try:
        return translate(rules)
    except CtlError as error:
        raise Failure(f"Error translating rules: {error}") from None


def rules_of_token(call: Call, token: str, *, secret: bool) -> str:
    """The rules of a legacy token, known by its secret or by its accessor."""
    if secret:
        headers = {"X-Consul-Token": token}
        response = call.client.request("GET", "/v1/acl/token/self", call.query(), headers=headers)
    else:
        response = call.get(f"/v1/acl/token/{token}")
    if response.status != 200:
        raise Failure(f"Error reading token: Unexpected response code: {response.status} ({response.text})")
    rules = response.json().get("Rules")
    if not rules:
        raise Failure("Token is not a legacy token with rules")
    return str(rules)
