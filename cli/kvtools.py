"""`ctl kv` for people: tree, cp, mv, diff, grep, edit, apply."""

from __future__ import annotations

import os

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cli.call import Call
    from cli.kvbatch import Entry

DIFFERENT = 1


def tree(call: Call) -> int:
    """`kv tree`: names as a tree."""
    from cli.terminal import clean

    prefix = _key(call.argument(0))
    response = call.get("/v1/kv/" + prefix, ("keys", ""))
    keys = [] if response.status == 404 else response.checked().json()
    if call.out.structured:
        call.out.document(keys)
        return 0
    nested: dict[str, Any] = {}
    for key in keys:
        place = nested
        *folders, leaf = key.split("/")
        for folder in folders:
            place = place.setdefault(folder + "/", {})
        if leaf:
            place[leaf] = {}
    for line in _branches(nested, ""):
        call.out.line(clean(line))
    return 0


def _branches(nested: dict[str, Any], indent: str) -> Iterator[str]:
    last = len(nested) - 1
    for number, (name, below) in enumerate(nested.items()):
        yield f"{indent}{'└── ' if number == last else '├── '}{name}"
        yield from _branches(below, indent + ("    " if number == last else "│   "))


def copy(call: Call) -> int:
    """`kv cp`: a key, or with -r all that begin with SOURCE."""
    return _transfer(call, keep=True)


def move(call: Call) -> int:
    """`kv mv`: the same, and the old ones are gone in the same transaction."""
    return _transfer(call, keep=False)


def _transfer(call: Call, keep: bool) -> int:
    from cli import kvbatch

    source, target = _required(call, 0, "SOURCE"), _required(call, 1, "TARGET")
    recurse = call.yes("recurse")
    if source == target:
        raise Usage("Error! SOURCE and TARGET are the same")
    if recurse and target.startswith(source) and not keep:
        raise Usage("Error! Cannot move keys to below themselves")
    found = kvbatch.read(call, source, recurse)
    if not found:
        raise Failure(f"Error! No key {'begins with' if recurse else 'is named'}: {source}", kind="missing")
    there = kvbatch.read(call, target, recurse)
    steps = []
    for entry in found.values():
        name = target + entry.key[len(source) :]
        if name in there and not call.yes("force"):
            raise Failure(f"Error! There is a key already: {name} (--force writes over it)", kind="conflict")
        new = kvbatch.Entry(name, entry.value, entry.flags)
        step = [kvbatch.put(new, there.get(name))]
        steps.append(step if keep else [*step, kvbatch.delete(entry)])
    kvbatch.carry_out(call, steps, call.yes("batches"))
    deed = "Copied" if keep else "Moved"
    call.out.done(
        f"Success! {deed} {len(found)} key{'s' * (len(found) != 1)} to: {target}", {"Keys": len(found)}
    )
    return 0


def diff(call: Call) -> int:
    """`kv diff`: what tells two subtrees, or a subtree and a directory, apart."""
    from cli import kvbatch

    left, right = call.argument(0), call.argument(1)
    before = {key[len(_key(left)) :]: entry for key, entry in kvbatch.read(call, _key(left)).items()}
    if _is_directory(right):
        after = _files(right)
    else:
        after = {key[len(_key(right)) :]: entry for key, entry in kvbatch.read(call, _key(right)).items()}
    lines = list(_differences(before, after))
    _show(call, lines)
    return DIFFERENT if lines else 0


def _is_directory(text: str) -> bool:
    return text.startswith((".", "/")) and os.path.isdir(text)


def _differences(before: dict[str, Entry], after: dict[str, Entry]) -> Iterator[str]:
    """A unified diff of every key that differs."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and old.value == new.value:
            continue
        yield from difference(name, old.value if old else None, new.value if new else None)


def difference(name: str, old: bytes | None, new: bytes | None) -> Iterator[str]:
    """A unified diff of one value; of what is no text only that it differs. None: it is not there."""
    import difflib

    was = "/dev/null" if old is None else name
    becomes = "/dev/null" if new is None else name
    try:
        before, after = (("" if one is None else one.decode()).splitlines() for one in (old, new))
    except UnicodeDecodeError:
        yield f"Binary values differ: {name}"
        return
    lines = list(difflib.unified_diff(before, after, was, becomes, lineterm=""))
    yield from lines or [f"--- {was}", f"+++ {becomes}"]


def _show(call: Call, lines: list[str]) -> None:
    from cli.terminal import clean, colour

    codes = {"+": "32", "-": "31", "@": "36"} if colour(call.values) else {}
    for line in lines:
        code = codes.get(line[:1])
        call.out.line(f"\x1b[{code}m{clean(line)}\x1b[0m" if code else clean(line))


def grep(call: Call) -> int:
    """`kv grep`: lines of values that match; 1 when there is none."""
    import re

    from cli import kvbatch
    from cli.terminal import clean

    try:
        pattern = re.compile(call.argument(0), re.IGNORECASE if call.yes("ignore-case") else 0)
    except re.error as error:
        raise Usage(f"Error! Not a regular expression: {error}") from None
    hits = 0
    for entry in kvbatch.read(call, _key(call.argument(1))).values():
        lines = [entry.key] if call.yes("keys") else entry.value.decode("utf-8", "replace").splitlines()
        for line in filter(pattern.search, lines):
            hits += 1
            call.out.line(clean(line if call.yes("keys") else f"{entry.key}: {line}"))
    return 0 if hits else 1


def edit(call: Call) -> int:
    """`kv edit`: a value in the editor; written back only if nobody changed it meanwhile."""
    import shlex
    import subprocess
    import tempfile

    from cli import kvbatch

    key = _required(call, 0, "KEY")
    old = kvbatch.read(call, key, recurse=False).get(key)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    suffix = os.path.splitext(key)[1]
    with tempfile.NamedTemporaryFile(prefix="ctl-", suffix=suffix, delete=False) as file:
        file.write(old.value if old else b"")
    try:
        code = subprocess.run([*shlex.split(editor), file.name], check=False).returncode
    except OSError as error:
        os.unlink(file.name)
        raise Failure(f"Error! Cannot start the editor {editor}: {error.strerror}") from None
    with open(file.name, "rb") as edited:
        value = edited.read()
    if code or (old is not None and value == old.value) or (old is None and not value):
        os.unlink(file.name)
        if code:
            raise Failure(f"Error! The editor ended with {code}: nothing was written")
        call.out.done(f"Nothing changed: {key}", {"Key": key, "Changed": False})
        return 0
    new = kvbatch.Entry(key, value, old.flags if old else 0)
    try:
        kvbatch.carry_out(call, [[kvbatch.put(new, old)]], batches=False)
    except Failure as failure:
        raise Failure(f"{failure}; your text is kept in {file.name}", kind=failure.kind) from None
    os.unlink(file.name)
    call.out.done(f"Success! Data written to: {key}", {"Key": key, "Changed": True})
    return 0


def apply(call: Call) -> int:
    """`kv apply`: make a subtree what the files of a directory say."""
    from cli import kvbatch

    folder, prefix = call.argument(0), _key(call.text("prefix"))
    if not os.path.isdir(folder):
        raise Failure(f"Error! Not a directory: {folder}")
    before = {key[len(prefix) :]: entry for key, entry in kvbatch.read(call, prefix).items()}
    after = _files(folder)
    gone = sorted(before.keys() - after.keys()) if call.yes("delete") else []
    changed = [name for name in after if name not in before or before[name].value != after[name].value]
    wanted = {name: entry for name, entry in before.items() if name not in gone} | after
    if call.yes("dry"):
        lines = list(_differences(before, wanted))
        _show(call, lines)
        return DIFFERENT if lines else 0
    steps = []
    for name in changed:
        old = before.get(name)
        new = kvbatch.Entry(prefix + name, after[name].value, old.flags if old else 0)
        steps.append([kvbatch.put(new, old)])
    steps += [[kvbatch.delete(before[name])] for name in gone]
    kvbatch.carry_out(call, steps, call.yes("batches"))
    same = len(after) - len(changed)
    said = f"Success! {len(changed)} written, {len(gone)} deleted, {same} as they were"
    call.out.done(said, {"Written": len(changed), "Deleted": len(gone), "Same": same})
    return 0


def _files(folder: str) -> dict[str, Entry]:
    """The files below a directory by their relative path; those that begin with a dot do not count."""
    from cli.client import error_text
    from cli.kvbatch import Entry

    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(place, name)
            if name.startswith("."):
                continue
            key = os.path.relpath(path, folder).replace(os.sep, "/")
            try:
                with open(path, "rb") as file:
                    found[key] = Entry(key, file.read())
            except OSError as error:
                raise Failure(f"Error! Cannot read {path}: {error_text(error)}") from None
    return found


def _key(text: str) -> str:
    return text.removeprefix("/")


def _required(call: Call, position: int, name: str) -> str:
    key = _key(call.argument(position))
    if not key:
        raise Usage(f"Error! Missing {name} argument")
    return key


_BATCHES = Flag("batches", "bool", "Use several transactions when one is too small for it.")
_RECURSE = Flag("recurse", "bool", "All keys that begin with SOURCE.", short="r")
_FORCE = Flag("force", "bool", "Write over keys that are there already.")
_PAIR = (
    Argument(
        "SOURCE", "Key, or with -r a prefix.", missing="Error! Missing SOURCE argument", complete="keys"
    ),
    Argument("TARGET", "The new one.", missing="Error! Missing TARGET argument", complete="keys"),
)
_WHOLE = (
    "In one transaction: it happens as a whole or not at all, and not if somebody changes a key meanwhile."
)

COMMANDS = (
    Command(
        "kv tree",
        "Show names as a tree",
        tree,
        arguments=(Argument("PREFIX", "Only keys that begin with this.", required=False, complete="keys"),),
        example=("ctl kv tree", "ctl kv tree config/"),
        server=True,
    ),
    Command(
        "kv cp",
        "Copy a key or a subtree",
        copy,
        arguments=_PAIR,
        flags=(_RECURSE, _FORCE, _BATCHES),
        text=_WHOLE,
        example=("ctl kv cp config/web config/web.bak", "ctl kv cp -r config/ old/config/"),
        server=True,
    ),
    Command(
        "kv mv",
        "Move a key or a subtree",
        move,
        arguments=_PAIR,
        flags=(_RECURSE, _FORCE, _BATCHES),
        text=_WHOLE,
        example=("ctl kv mv config/web config/www", "ctl kv mv -r config/ settings/"),
        server=True,
    ),
    Command(
        "kv diff",
        "Compare two subtrees, or one with a directory",
        diff,
        arguments=(
            Argument("PREFIX", "The one.", complete="keys"),
            Argument(
                "OTHER", "The other: a prefix, or a directory that begins with `.` or `/`.", complete="keys"
            ),
        ),
        text="The exit code is 1 when they differ, as of diff(1).",
        example=("ctl kv diff config/ old/config/", "ctl kv diff config/ ./config"),
        server=True,
        output=False,
    ),
    Command(
        "kv grep",
        "Find lines in values",
        grep,
        arguments=(
            Argument("PATTERN", "Regular expression."),
            Argument("PREFIX", "Only keys that begin with this.", required=False, complete="keys"),
        ),
        flags=(
            Flag("keys", "bool", "Look at names instead of values.", short="k"),
            Flag("ignore-case", "bool", "Upper and lower case are the same.", short="i"),
        ),
        text="The exit code is 1 when nothing matches, as of grep(1).",
        example=("ctl kv grep 10\\.0\\.0 config/",),
        server=True,
        output=False,
    ),
    Command(
        "kv edit",
        "Change a value in the editor",
        edit,
        arguments=(Argument("KEY", "The key.", missing="Error! Missing KEY argument", complete="keys"),),
        text="The editor is $VISUAL, $EDITOR or vi. What somebody else changed meanwhile is not written "
        "over: the text is then kept in a file.",
        example=("ctl kv edit config/web.json",),
        server=True,
    ),
    Command(
        "kv apply",
        "Make a subtree what the files of a directory say",
        apply,
        arguments=(Argument("DIR", "The directory; a file's path in it is its key.", complete="files"),),
        flags=(
            Flag("prefix", "string", "Put every key under this prefix.", complete="keys"),
            Flag("delete", "bool", "Delete the keys that have no file."),
            Flag("dry", "bool", "Only show what would change; the exit code is 1 if anything."),
            _BATCHES,
        ),
        text=_WHOLE,
        example=(
            "ctl kv apply ./config --prefix config/ --dry",
            "ctl kv apply ./config --prefix config/ --delete",
        ),
        server=True,
    ),
)
