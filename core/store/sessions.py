"""Sessions: reads, creation, and what their end does to the keys they hold (protocols/fsm.md section 4)."""

from __future__ import annotations

from msgspec.structs import replace

from core.codec.duration import SECOND
from core.errors import Invalid
from core.store import kv
from core.store.structs import CRITICAL, Session
from core.store.view import View
from core.store.watch import Watch

MAX_LOCK_DELAY = 60 * SECOND


class SessionReads(View):
    """Reads of the sessions. The index is that of the whole table; it moves without firing the watch of one
    session or of a node's sessions, unless that is a whole one."""

    def session_get(self, session_id: str, watch: Watch | None = None) -> tuple[int, Session | None]:
        self.watch_narrowly(watch, "sessions", ("session", session_id))
        return self.index("sessions"), self.sessions.get(session_id)

    def session_list(self, watch: Watch | None = None) -> tuple[int, list[Session]]:
        """All sessions, by id."""
        self.watch_cell(watch, "sessions")
        return self.index("sessions"), list(self.sessions.values())

    def node_sessions(self, node: str, watch: Watch | None = None) -> tuple[int, list[Session]]:
        """The sessions of a node, by id."""
        self.watch_narrowly(watch, "sessions", ("sessions of", node.lower()))
        rows = self.sessions.rows
        return self.index("sessions"), [rows[key] for key in self.sessions.group("node", node.lower())]


def create(view: View, index: int, session: Session) -> str:
    """Store a new session and return its id. Its node and checks must exist, none of them critical."""
    if not session.id:
        raise Invalid("Missing session ID")
    if session.behavior not in ("", "release", "delete"):
        raise Invalid(f"Invalid session behavior: {session.behavior}")
    node = session.node.lower()
    if node not in view.node_rows:
        raise Invalid("Missing node registration")
    checks = session.check_ids()
    for check_id in checks:
        check = view.check_rows.get((node, check_id.lower()))
        if check is None:
            raise Invalid(f"Missing check '{check_id}' registration")
        if check.status == CRITICAL:
            raise Invalid(f"Check '{check_id}' is in {check.status} state")
    stored = replace(session, behavior=session.behavior or "release", create_index=index, modify_index=index)
    view.sessions.put(session.id, stored)
    bind_checks(view, stored)
    _changed(view, index, stored)
    return session.id


def _changed(view: View, index: int, session: Session) -> None:
    view.bump("sessions", index)
    view.mark(("session", session.id))
    view.mark(("sessions of", session.node.lower()))
    view.touched_session(session.id)


def bind_checks(view: View, session: Session) -> None:
    """Note which checks end the session when they become critical."""
    for check_id in session.check_ids():
        view.session_checks.put((session.node.lower(), check_id.lower(), session.id), session.id)


def destroy(view: View, index: int, session_id: str) -> None:
    """End a session: release or delete the keys it holds, start their lock delay, forget its check
    bindings and the prepared queries bound to it. Nothing when there is no such session."""
    session = view.sessions.remove(session_id)
    if session is None:
        return
    _changed(view, index, session)
    delay = min(session.lock_delay, MAX_LOCK_DELAY)
    for key in list(view.kv.group("session", session_id)):
        if session.behavior == "delete":
            kv.delete(view, index, key)
        else:
            entry = view.kv.rows[key]
            kv.put(view, index, replace(entry, session=""), keep_session=False)
        if delay > 0:
            view.released(key, delay)
    for binding in list(view.session_checks.group("session", session_id)):
        view.session_checks.remove(binding)
    for query_id in list(view.queries.group("session", session_id)):
        view.queries.remove(query_id)
        view.bump("prepared-queries", index)


def destroy_for_check(view: View, index: int, node: str, check_id: str) -> None:
    """End the sessions bound to a check; names in lower case."""
    for binding in list(view.session_checks.group("check", (node, check_id))):
        destroy(view, index, binding[2])


def destroy_for_node(view: View, index: int, node: str) -> None:
    """End the sessions of a node; name in lower case."""
    for session_id in list(view.sessions.group("node", node)):
        destroy(view, index, session_id)
