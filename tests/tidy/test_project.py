"""The project as a whole: generated files current, vectors used, nothing of one machine in it."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.tidy.source import ROOT, kept_files

TEXT = {".py", ".md", ".toml", ".yaml", ".json", ".sh", ".bash", ".zsh", ".fish", ".hcl", ""}
# Said in pieces, so that this file does not contain what it looks for.
HOME = re.compile(r"/(?:root|home|Users)/[a-z]|/work/[a-z]")
HOSTS = re.compile("|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "deb" + r"\.debian\.org")))
EXAMPLES = re.compile(r"/home/(?:user|me|alice|you)\b")  # of documentation


def _texts() -> list[tuple[Path, str]]:
    found = []
    for path in kept_files():
        recorded = path.parts[:2] in (("tests", "vectors"), ("tests", "conformance"))
        if path.suffix in TEXT and not recorded and path.name != "LICENSE":
            found.append((path, (ROOT / path).read_text()))
    return found


def test_nothing_of_one_machine() -> None:
    for path, text in _texts():
        for number, line in enumerate(text.splitlines(), 1):
            found = HOME.search(EXAMPLES.sub("", line)) or HOSTS.search(line)
            assert not found, f"{path}:{number}: {line.strip()}"


def test_generated_files_are_current() -> None:
    from cli.generate import generated

    for path, text in generated().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is old: run `make generate`"


def test_dependencies_have_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in [requirement for group in groups for requirement in group]:
        assert ">=" in requirement, f"{requirement}: no lower bound"
        assert re.search(r"<\d", requirement), f"{requirement}: no upper bound"


def test_every_vector_file_is_used() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    folder = ROOT / "tests" / "vectors"
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        used = path.name in tests or re.search(rf"""["']{path.stem}["']""", tests) is not None
        assert used, f"no test uses tests/vectors/{name}"


def test_licence_is_the_whole_apache_text() -> None:
    import hashlib

    text = (ROOT / "LICENSE").read_bytes()
    assert (
        hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    )


@pytest.mark.parametrize("path", [".ci/run", "tests/conformance/run"])
def test_scripts_can_be_run(path: str) -> None:
    assert os.access(ROOT / path, os.X_OK)


def test_make_knows_its_targets() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("help", "run", "test", "lint", "bench", "generate", "clean", "format"):
        assert re.search(rf"^{target}:.* ## ", text, re.MULTILINE), f"make {target} is missing or has no help"


def test_every_test_file_is_found_by_pytest() -> None:
    """A file of tests under another name would never run."""
    for path in (ROOT / "tests").rglob("*.py"):
        if re.search(r"^def test_", path.read_text(), re.MULTILINE):
            assert path.name.startswith("test_"), f"{path.relative_to(ROOT)} is never run"
