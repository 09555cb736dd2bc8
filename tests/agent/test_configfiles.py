"""Files and directories of configuration, and what the machine says of its interfaces."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from agent.configfiles import load_config, read_sources
from agent.interfaces import machine
from core.config.addresses import resolve
from core.config.flags import parse
from core.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "b.json": '{"recursors": ["2.2.2.2"]}',
        "a.hcl": 'recursors = ["1.1.1.1"]',
        "c.toml": 'recursors = ["3.3.3.3"]',
        "d.yaml": "recursors: [4.4.4.4]",
        "B.json": '{"recursors": ["0.0.0.1"]}',
        "README": "not configuration",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sub.json").mkdir()
    (tmp_path / "sub.json" / "x.json").write_text('{"bogus": 1}')
    (tmp_path / "link.json").symlink_to(tmp_path / "b.json")
    return tmp_path


def test_directory(folder: Path) -> None:
    sources, warnings = read_sources([str(folder)])
    assert [os.path.basename(source.name) for source in sources] == [
        "B.json", "a.hcl", "b.json", "c.toml", "d.yaml", "link.json",
    ]  # fmt: skip
    (warning,) = warnings
    assert warning.startswith(f"skipping file {folder}/README, extension must be .hcl or .json")


def test_paths_in_the_order_given(folder: Path) -> None:
    later = str(folder / "B.json")
    config = load_config(parse(["-dev", "-config-dir", str(folder), "-config-file", later]))
    expected = ["0.0.0.1", "1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4", "2.2.2.2", "0.0.0.1"]
    assert config["recursors"] == expected
    assert config["node_name"]
    assert config.warnings[0].startswith("skipping file")


def test_empty_second_file(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"node_name": "n"}')
    (tmp_path / "two.json").write_text("")
    config = load_config(
        parse(["-dev", *(f"-config-file={tmp_path / name}" for name in ("one.json", "two.json"))])
    )
    assert config["node_name"] == "n"


def test_a_format_for_all(folder: Path) -> None:
    (folder / "README").write_text("[]")
    sources, warnings = read_sources([str(folder / "README")], "hcl")
    assert (sources[0].format, warnings) == ("hcl", [])
    with pytest.raises(ConfigError, match="-config-format must be either 'hcl' or 'json"):
        read_sources([], "ini")


def test_errors_name_the_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"file .*README has unknown extension; must be \.hcl or \.json"):
        read_sources([str(folder / "README")])
    with pytest.raises(
        ConfigError, match=r"config: Open failed on /nosuch\. open /nosuch: no such file or directory"
    ):
        read_sources(["/nosuch"])
    (folder / "bytes.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match=r"failed to parse .*bytes\.json: illegal UTF-8 encoding at byte 7"):
        read_sources([str(folder)])


def test_a_special_file_is_no_configuration(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")
    sources, warnings = read_sources([str(folder)])
    assert all("pipe" not in source.name for source in sources)
    assert any("pipe.json" in warning for warning in warnings)


def test_this_machine() -> None:
    host = machine()
    addresses = [address for interface in host.interfaces for address in interface.addresses]
    assert any(ipaddress.ip_interface(address).ip.is_loopback for address in addresses)
    assert host.default in ["", *(interface.name for interface in host.interfaces)]
    assert resolve(load_config(parse(["-dev"])), host).bind == "127.0.0.1"
