"""A text becomes a file: checked, swapped in at one stroke, and put back when its command fails.

The new text stands under another name beside its destination until it is whole and on disk; whoever looks
at the destination sees the old file or the new one, whatever ends this process in between."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import NamedTuple

from cli.client import error_text
from cli.command import Failure
from core.template.settings import Output


class Written(NamedTuple):
    """What it takes to take a write back."""

    path: str
    old: str  # a second name of the file that was there before, `` if there was none


def current(path: str) -> bytes | None:
    """What the destination holds; None if it is not there. Failure when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot read {path}: {error_text(error)}") from None


class Swap:
    """One write of `data` to the destination of `output`: `prepare`, then `commit` or `abandon`."""

    def __init__(self, output: Output, data: bytes) -> None:
        self._output, self._data = output, data
        self.path = os.path.realpath(output.destination)  # a link stays, the file behind it changes
        self.temporary = _beside(self.path, "new")
        self._old = _beside(self.path, "old")
        self._first = _beside(self.path, "first")

    def prepare(self) -> str:
        """Write the new file beside the old one and give its name. Failure."""
        try:
            if self._output.make_folders:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)  # of a run that was killed
            descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(self._data)
                self._dress(descriptor)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            self.abandon()
            raise Failure(f"cannot write {self.path}: {error_text(error)}") from None
        return self.temporary

    def _dress(self, descriptor: int) -> None:
        """Owner and mode: as told, else those of the old file."""
        output = self._output
        try:
            old: os.stat_result | None = os.stat(self.path)
        except FileNotFoundError:
            old = None
        user, group = owner(output.user, output.group)
        if old is not None:
            user = old.st_uid if user < 0 else user
            group = old.st_gid if group < 0 else group
        if (user, group) != (-1, -1) and (user, group) != (os.geteuid(), os.getegid()):
            try:
                os.fchown(descriptor, user, group)
            except PermissionError:
                if output.user or output.group:
                    raise  # it was asked for; an inherited owner may be lost
        mode = output.perms
        if mode is None:
            mode = stat.S_IMODE(old.st_mode) if old is not None else 0o644
        os.fchmod(descriptor, mode)

    def commit(self) -> Written:
        """Put the new file in the place of the old one. Failure."""
        try:
            had = os.path.exists(self.path)
            if had:
                if self._output.backup:
                    shutil.copy2(self.path, self.path + ".bak")
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._old)
                try:
                    os.link(self.path, self._old)
                except OSError:  # not every file system and not every owner lets us
                    shutil.copy2(self.path, self._old)
            elif self._output.command is not None:
                open(self._first, "wb").close()  # there is no old file to tell that the command has not run
            os.rename(self.temporary, self.path)
            _sync_folder(self.path)
        except OSError as error:
            self.abandon()
            raise Failure(f"cannot replace {self.path}: {error_text(error)}") from None
        return Written(self.path, self._old if had else "")

    def abandon(self) -> None:
        """Forget the new file."""
        with contextlib.suppress(OSError):
            os.unlink(self.temporary)


def unfinished(destination: str) -> Written | None:
    """The write that an earlier run did, if it was ended before its command: the old file is still there,
    or the mark of a first one."""
    path = os.path.realpath(destination)
    old = _beside(path, "old")
    if current(old) not in (None, current(path)):
        return Written(path, old)
    if os.path.exists(_beside(path, "first")):
        return Written(path, "")
    with contextlib.suppress(OSError):
        os.unlink(old)  # it was ended before the write
    return None


def _beside(path: str, what: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.ctl-{what}")


def keep(written: Written) -> None:
    """The new file is good: forget the old one."""
    for name in (written.old, _beside(written.path, "first")):
        with contextlib.suppress(OSError):
            os.unlink(name)


def restore(written: Written) -> bool:
    """Put the old file back; False if there was none. Failure."""
    if not written.old:
        return False
    try:
        os.rename(written.old, written.path)
        _sync_folder(written.path)
    except OSError as error:
        raise Failure(f"cannot restore {written.path}: {error_text(error)}") from None
    return True


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def owner(user: str, group: str) -> tuple[int, int]:
    """The numbers of a user and a group given by name or number; -1 where none is given. Failure."""
    import grp
    import pwd

    try:
        uid = -1 if not user else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Failure(f"there is no such user or group: {error}") from None
    return uid, gid
