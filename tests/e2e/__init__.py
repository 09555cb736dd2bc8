"""What an operator runs, whole: agents, commands, and the programs beside them."""

from tests.e2e.programs import Backend, Program, ctl, get, marked, read, register

__all__ = ["Backend", "Program", "ctl", "get", "marked", "read", "register"]
