"""When sessions with a TTL end: a wheel of deadlines that only the leader keeps (protocols/fsm.md section 8).

A session lives for twice its TTL after the last renewal, so that a renewal that is late, or lost with
an old leader, does not end it. Renewing costs one assignment: where the wheel finds a session whose
deadline was moved, it puts it further on."""

from __future__ import annotations

SLOT = 0.25  # seconds that share a slot of the wheel
PAUSE = 1.0  # a tick that comes so much too late means that this process stood still

_RETRY = 10.0  # seconds until the end of a session is tried again if it did not come to be


class SessionTimers:
    """Deadlines by session id. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._deadlines: dict[str, float] = {}
        self._slots: dict[int, list[str]] = {}
        self._next = int(now / SLOT)  # the slot to look into next
        self._ticked = now

    def __len__(self) -> int:
        return len(self._deadlines)

    def start(self, session_id: str, ttl: float, now: float) -> None:
        """A session was made, or renewed: it has twice its TTL (seconds) from now on."""
        if not self._deadlines:  # nobody has ticked for want of deadlines, which was no pause
            self._slots.clear()
            self._next, self._ticked = int(now / SLOT), now
        deadline = now + 2 * ttl
        known = self._deadlines.get(session_id)
        self._deadlines[session_id] = max(deadline, known or 0.0)
        if known is None:
            self._slot(deadline).append(session_id)

    def stop(self, session_id: str) -> None:
        """The session is gone."""
        self._deadlines.pop(session_id, None)

    def deadline(self) -> float | None:
        """When to tick next, None while there is nothing to wait for."""
        return (self._next + 1) * SLOT if self._deadlines else None

    def tick(self, now: float) -> list[str]:
        """The sessions whose time is up; they are tried again a while later unless `stop` is called.

        After a pause of this process nobody can be blamed for not renewing: every deadline moves."""
        due = self.deadline()
        if due is not None and now - max(due, self._ticked) > PAUSE:
            late = now - max(due, self._ticked)
            for session_id in self._deadlines:
                self._deadlines[session_id] += late
        self._ticked = now
        expired: list[str] = []
        last = int(now / SLOT)
        slots = range(self._next, last) if last - self._next < len(self._slots) else sorted(self._slots)
        for slot in slots:
            if slot < last:
                expired += self._empty(slot, now)
        self._next = max(self._next, last)
        return expired

    def _empty(self, slot: int, now: float) -> list[str]:
        expired = []
        for session_id in self._slots.pop(slot, ()):
            deadline = self._deadlines.get(session_id)
            if deadline is None:
                continue
            if deadline > now:
                self._slot(deadline).append(session_id)
            else:
                expired.append(session_id)
                self._deadlines[session_id] = now + _RETRY
                self._slot(now + _RETRY).append(session_id)
        return expired

    def _slot(self, deadline: float) -> list[str]:
        return self._slots.setdefault(max(int(deadline / SLOT) + 1, self._next), [])
