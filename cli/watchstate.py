"""What `ctl watch` handed over last, kept over restarts: a file for each watch with its handler."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from core.watch.progress import Progress, identity

if TYPE_CHECKING:
    from cli.call import Call
    from cli.watchplan import Plan


class State:
    """The file of one watch; none where nothing is to be kept. `payload` is the last one, for --diff."""

    def __init__(self, call: Call, plan: Plan) -> None:
        self.payload: Any = None
        self._diff = plan.diff
        self._path = ""
        # Who says what the first run shall be, or wants one run only, is not followed over restarts.
        if plan.handler and not plan.consul_form and not plan.once and "initial" not in call.values:
            asked = [plan.kind, plan.path, plan.query, plan.handler, plan.diff, call.client.place.url]
            name = identity({"watch": [*asked, call.client.place.unix, call.query()]})
            base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
            self._path = os.path.join(base, "ctl", "watches", name)

    def recall(self, progress: Progress) -> None:
        """Go on from where the last process was, if there was one."""
        if not self._path:
            return
        try:
            with open(self._path, encoding="utf-8") as file:
                saved = json.load(file)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _complain(f"cannot read what was handed over last: {self._path}: {error}")
            return
        if isinstance(saved, dict):
            progress.restore(saved)
            self.payload = saved.get("payload")

    def keep(self, progress: Progress, payload: Any) -> None:
        """It was handed over."""
        self.payload = payload
        if not self._path:
            return
        saved = progress.save()
        if self._diff:
            saved["payload"] = payload
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(saved, file)
            os.replace(temporary, self._path)
        except OSError as error:
            _complain(f"a restart will hand this over again: {error}")
            self._path = ""


def _complain(text: str) -> None:
    from cli.call import note

    note(f"Error: watch: {text}")
