"""`ctl completions`: print a script, or put it where the shell looks."""

from __future__ import annotations

import os

from cli.call import Call, note
from cli.client import error_text
from cli.command import Failure, Usage
from cli.shells import SHELLS, script


def completions(call: Call) -> int:
    """Print or install the completion script of one shell."""
    from cli.help import tree
    from cli.usage import SUMMARIES

    shell = call.argument(0)
    if shell not in SHELLS:
        raise Usage(f"Error: no completion for {shell}; there is one for {', '.join(SHELLS)}")
    text = script(shell, tree(), SUMMARIES)
    if not call.yes("install"):
        call.out.write(text)
        return 0
    path = place(shell)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"Error: cannot write {path}: {error_text(error)}") from None
    call.out.line(f"Wrote {path}")
    if shell == "zsh":
        note(f"Add this to ~/.zshrc before compinit: fpath+=({os.path.dirname(path)})")
    return 0


def place(shell: str) -> str:
    """Where a shell looks for the completions of its user."""
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    if shell == "bash":
        base = os.environ.get("BASH_COMPLETION_USER_DIR") or os.path.join(data, "bash-completion")
        return os.path.join(base, "completions", "ctl")
    if shell == "zsh":
        return os.path.join(data, "zsh", "site-functions", "_ctl")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(config, "fish", "completions", "ctl.fish")
