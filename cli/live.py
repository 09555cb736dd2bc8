"""Live words for completion: keys, services, names of policies ..., within 150 ms or not at all.

The shells call `ctl __complete KIND PREFIX`. Answers are kept for two seconds, so that pressing TAB
again costs no request. Whatever goes wrong, nothing is printed: a prompt is no place for errors."""

from __future__ import annotations

import os
import time

from cli.command import Command, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call

LIMIT = 0.150
KEPT = 2.0
# Kind of word -> where the agent lists them, and the field that is the word ("": the keys or items).
_PATHS = {
    "services": ("/v1/catalog/services", ""),
    "nodes": ("/v1/catalog/nodes", "Node"),
    "checks": ("/v1/agent/checks", ""),
    "datacenters": ("/v1/catalog/datacenters", ""),
    "sessions": ("/v1/session/list", "ID"),
    "acl-token-ids": ("/v1/acl/tokens", "AccessorID"),
    "acl-policies": ("/v1/acl/policies", "Name"),
    "acl-policy-ids": ("/v1/acl/policies", "ID"),
    "acl-roles": ("/v1/acl/roles", "Name"),
    "acl-role-ids": ("/v1/acl/roles", "ID"),
    "acl-methods": ("/v1/acl/auth-methods", "Name"),
    "acl-rule-ids": ("/v1/acl/binding-rules", "ID"),
    "acl-templates": ("/v1/acl/templated-policies", ""),
}
KINDS = ("keys", *_PATHS)


def complete(call: Call) -> int:
    """`__complete KIND PREFIX`: one word a line."""
    kind, prefix = call.argument(0), call.argument(1)
    if kind not in KINDS:
        return 0
    call.arguments = []
    try:
        _limit()
        words = _words(call, kind, prefix)
    except (Failure, OSError, ValueError, KeyError, TypeError):
        return 0
    call.out.write("".join([word + "\n" for word in words if word.startswith(prefix) and "\n" not in word]))
    return 0


def _limit() -> None:
    """End this process at the limit, even inside a name look-up that nothing else can interrupt."""
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)


def _words(call: Call, kind: str, prefix: str) -> list[str]:
    environ = os.environ
    address = environ.get("CTL_HTTP_ADDR") or environ.get("CONSUL_HTTP_ADDR") or environ.get("CTL_SOCKET", "")
    # Keys come one level at a time, so the folder that is being looked at belongs to the question.
    folder = prefix[: prefix.rfind("/") + 1] if kind == "keys" else ""
    question = repr((address, kind, folder))
    kept = _recall(kind, question)
    if kept is not None:
        return kept
    call.client.deadline = time.monotonic() + LIMIT
    if kind == "keys":
        response = call.client.get("/v1/kv/" + folder, [("keys", ""), ("separator", "/")])
        found = [] if response.status == 404 else response.checked().json()
    else:
        path, field = _PATHS[kind]
        answer = call.client.get(path).checked().json()
        found = [entry[field] for entry in answer] if field else list(answer)
    words = sorted(found)
    _keep(kind, question, words)
    return words


def _folder() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ctl")


def _recall(kind: str, question: str) -> list[str] | None:
    """Words of the same question, if they are fresh."""
    path = os.path.join(_folder(), kind)
    try:
        age = time.time() - os.stat(path).st_mtime
        if not 0 <= age < KEPT:
            return None
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return lines[1:] if lines and lines[0] == question else None


def _keep(kind: str, question: str, words: list[str]) -> None:
    """Remember an answer, readable by its owner alone. Keys with line ends are not worth a format."""
    words = [word for word in words if len(word.splitlines()) == 1]
    text = "\n".join([question, *words]) + "\n"
    folder = _folder()
    temporary = os.path.join(folder, f"{kind}.{os.getpid()}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.replace(temporary, os.path.join(folder, kind))
    except OSError:
        return


COMMANDS = (
    Command(
        "__complete", "Words for the shells", complete, connects=False, output=False, raw=True, hidden=True
    ),
)
