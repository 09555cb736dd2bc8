"""Configuration from disk: reading files and directories, and the whole way from flags to a Config."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from core.config.flags import Flags
from core.config.formats import Source
from core.config.load import load
from core.config.settings import Config
from core.config.sources import check_format, format_of, in_order, skipped, unknown_extension
from core.errors import ConfigError


def load_config(flags: Flags, strict: bool = False) -> Config:
    """The configuration that the flags and the files they name make now. For start, reload and validate.

    ConfigError when it cannot be used; `Config.problems` has what only an agent must not run with."""
    sources, warnings = read_sources(flags.config_paths, flags.config_format)
    config = load(sources, flags, hostname=socket.gethostname(), strict=strict)
    config.warnings[:0] = warnings
    return config


def read_sources(paths: Iterable[str], config_format: str = "") -> tuple[list[Source], list[str]]:
    """The files that `paths` (files or directories) name, in order, and warnings about skipped ones.

    Directories are not descended into. ConfigError for what cannot be read."""
    check_format(config_format)
    sources: list[Source] = []
    warnings: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            for name in in_order(_names(path)):
                inner = os.path.join(path, name)
                if os.path.isdir(inner):
                    continue
                kind = format_of(name, config_format)
                if not os.path.isfile(inner):  # a pipe would be waited for, for ever
                    warnings.append(f"skipping {inner}, it is not a regular file")
                elif kind:
                    sources.append(Source(inner, kind, _text(inner)))
                else:
                    warnings.append(skipped(inner))
        else:
            text = _text(path)
            kind = format_of(path, config_format)
            if not kind:
                raise ConfigError(unknown_extension(path))
            sources.append(Source(path, kind, text))
    return sources, warnings


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError as error:
        raise ConfigError(f"config: Readdir failed on {path}. {_words('open', path, error)}") from None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(f"config: Open failed on {path}. {_words('open', path, error)}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"failed to parse {path}: illegal UTF-8 encoding at byte {error.start}") from None


def _words(what: str, path: str, error: OSError) -> str:
    """An operating system's error in Go's words: `open F: no such file or directory`."""
    return f"{what} {path}: {(error.strerror or str(error)).lower()}"
