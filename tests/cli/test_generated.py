"""What is made from the declarations: help pages, the reference page, completion scripts."""

import shutil
import subprocess
import sys

import pytest

from cli.generate import generated
from cli.help import THEMES, tree
from cli.main import GROUPS
from cli.usage import SUMMARIES
from tests.cli.conftest import ROOT

TREE = tree()


def test_generated_files_are_current():
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m cli.generate"


def test_every_word_has_a_summary():
    assert list(SUMMARIES) == [word for word in GROUPS if not word.startswith("__")]


def test_every_word_has_a_theme_on_the_first_page():
    assert sorted(" ".join(THEMES.values()).split()) == sorted(SUMMARIES)


def test_the_first_page_loads_no_group():
    code = "import sys; from cli.main import run; run(['--help']); print('cli.kv' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "First steps:" in done.stdout
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize("path", TREE)
def test_every_command_is_described(path):
    command = TREE[path]
    assert command.summary
    assert command.example
    assert any(f"ctl {path}" in line for line in command.example)
    for flag in command.all_flags():
        assert flag.help.endswith(".")
        assert flag.kind in ("bool", "string", "int", "uint", "duration", "list", "map")
    assert len({flag.name for flag in command.all_flags()}) == len(command.all_flags())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["kv", "-help"], ["help", "kv"]])
def test_help_of_groups(ctl, words):
    result = ctl(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out.lstrip().startswith("Usage: ctl")


@pytest.mark.parametrize("path", [path for path in TREE if path != "agent start"])
def test_help_of_every_command(ctl, path):
    result = ctl(*path.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: ctl {path}" in result.out
    for line in TREE[path].example:
        assert line in result.out
    for flag in TREE[path].all_flags():
        assert flag.hidden or f"--{flag.name}" in result.out


def test_help_on_what_is_not(ctl):
    assert ctl("help", "nosuch").code == 1
    assert "Usage: consul kv get" in ctl("kv", "get", "-h", name="consul").out


def test_completions_print_and_install(ctl, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    places = {
        "bash": "data/bash-completion/completions/ctl",
        "zsh": "data/zsh/site-functions/_ctl",
        "fish": "config/fish/completions/ctl.fish",
    }
    for shell, place in places.items():
        text = (ROOT / "completions" / f"ctl.{shell}").read_text()
        assert ctl("completions", shell).out == text
        assert ctl("completions", shell, "--install").out == f"Wrote {tmp_path / place}\n"
        assert (tmp_path / place).read_text() == text
    assert ctl("completions", "tcsh").code == 1
    assert ctl("completions").code == 1


@pytest.fixture
def path_with_ctl(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ctl"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m cli "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


CASES = {
    "ctl kv ge": "get",
    "ctl kv get a": "a/",
    "ctl kv get a/": "a/b|a/c d|a/e:f|a/g/",
    "ctl services show d": "db",
    "ctl nodes show ": "n1|n2",
    "ctl kv get -o js": "json",
    "ctl -o json kv exp": "export",
    "ctl watch key a/b": "a/b",
    "ctl comp": "completions",
    "ctl completions z": "zsh",
    "ctl members --detai": "--detailed",
}


def fill(agent):
    for key in ("a/b", "a/c d", "a/e:f", "a/g/h", "b"):
        agent.put(key, b"1")


@pytest.mark.parametrize("line", CASES)
def test_bash(agent, path_with_ctl, line):
    fill(agent)
    script = f""". {ROOT}/completions/ctl.bash
COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _ctl; IFS='|'; echo "${{COMPREPLY[*]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip().replace("\\", "") == CASES[line]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize("line", CASES)
def test_fish(agent, path_with_ctl, line):
    fill(agent)
    script = f"source {ROOT}/completions/ctl.fish; complete -C '{line}' | string replace -r '\\t.*' ''"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert "|".join(done.stdout.split("\n")).strip("|") == CASES[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_parse(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(ROOT / "completions" / f"ctl.{shell}")], check=True)
