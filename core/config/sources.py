"""Which files of a directory are configuration, in which order, and in which format.

reference/config.md section 1. TOML and YAML are ctl's own: Consul skips such files, so one directory
may serve both."""

from __future__ import annotations

from collections.abc import Iterable

from core.config.formats import FORMATS
from core.errors import ConfigError

EXTENSIONS = {".json": "json", ".hcl": "hcl", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
_MUST = "must be .hcl or .json (.toml, .yaml), or config format must be set"


def check_format(config_format: str) -> None:
    """ConfigError for a `-config-format` that there is not."""
    if config_format and config_format not in FORMATS:
        raise ConfigError("-config-format must be either 'hcl' or 'json' (or 'toml', 'yaml')")


def format_of(name: str, config_format: str = "") -> str:
    """The format of a file: what `-config-format` says, else what the extension means; `` when none."""
    return config_format or next((kind for end, kind in EXTENSIONS.items() if name.endswith(end)), "")


def in_order(names: Iterable[str]) -> list[str]:
    """Names of a directory in byte order."""
    return sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))


def skipped(path: str) -> str:
    """The warning about a file in a directory that has no known extension."""
    return f"skipping file {path}, extension {_MUST}"


def unknown_extension(path: str) -> str:
    """The error about such a file when it was named itself."""
    return f"file {path} has unknown extension; {_MUST}"
