"""docs/mobile-node.md: its profiles load, its words are those of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from config_workshop import GW_KEY, Workshop, pem_key
from pydantic import BaseModel
from typer.main import get_command

from gateway.cli.commands import app
from gateway.config.profile import (
    DetectionPart,
    GatewayPart,
    HintsPart,
    HomeAgentPart,
    LoginPart,
    NetworkPart,
    OutsidePart,
    ProcessPart,
    Profile,
    load_profile,
)
from gateway.config.to_node import connection_policy, node_policy, node_settings
from gateway.dataplane.kernel.node import constants
from gateway.domain.access_mode import AccessMode

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "mobile-node.md").read_text()
UNIT = (ROOT / "deploy" / "gateway-mn.service").read_text()
PROFILES = {
    f"docs {number}": text
    for number, text in enumerate(
        re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    )
}
PROFILES["deploy"] = (ROOT / "deploy" / "profile.toml").read_text()


PARTS: dict[str, type[BaseModel]] = {
    "profile": ProcessPart,
    "gateway": GatewayPart,
    "login": LoginPart,
    "inside": HomeAgentPart,
    "outside": OutsidePart,
    "detection": DetectionPart,
    "hints": HintsPart,
    "network": NetworkPart,
}


def section(heading: str) -> str:
    """The page below a heading, up to the next of the same rank."""
    rank = heading.split(" ", maxsplit=1)[0]
    after = PAGE.partition(f"\n{heading}\n")[2]
    assert after, heading
    return re.split(rf"^#{{1,{len(rank)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def loaded(workshop: Workshop, text: str) -> Profile:
    """A profile with files of the names that it uses."""
    for name in ("ann.pem", "ann.key", "inside.key", "outside.key", "ann.password"):
        workshop.put(name, b"open sesame\n")
    workshop.put("ann.pem", (workshop.directory / "gw.pem").read_bytes())
    workshop.put("ann.key", pem_key(GW_KEY))
    for number, name in enumerate(("inside.key", "outside.key")):
        workshop.put(name, bytes(range(number, 16 + number)).hex().encode())
    text = text.replace("/etc/gateway-mn/", f"{workshop.directory}/")
    return load_profile(workshop.write(text, "profile.toml"))


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_used(workshop: Workshop, name: str) -> None:
    profile = loaded(workshop, PROFILES[name])
    of_the_name = {"login.certificate"}  # our test's certificate is the gateway's
    assert {warning.key for warning in profile.warnings} <= of_the_name
    node_settings(profile)
    policy = node_policy(profile)
    if profile.gateway is not None and policy.vpn is not None:
        assert connection_policy(profile) is not None


def test_there_are_profiles() -> None:
    assert len(PROFILES) >= 6


def test_every_access_mode_has_its_row() -> None:
    named = {mode for row in rows("## Access modes") for mode in re.findall(r"`(\w+)`", row[0])}
    assert named == {mode.value for mode in AccessMode}


def test_the_numbers_are_those_of_the_profile() -> None:
    told: dict[str, float] = {}
    for row in rows("### The numbers"):
        keys = re.findall(r"`(\w+)`", row[0])
        values = [float(value) for value in row[1].split(",")]
        told.update(zip(keys, values, strict=True))
    assert told == DetectionPart().model_dump()


def _texts() -> Iterator[str]:
    """What the node and its host can say, with a star for what is filled in."""
    for folder in ("mobile_node", "mobile_host"):
        for file in (ROOT / "gateway" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "*"
                        for part in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_every_text_of_the_table_is_said() -> None:
    texts = list(_texts())
    for row in rows("## When something does not work"):
        parts = re.findall(r"`([^`]+)`", row[0])
        assert parts, row
        pattern = ".*".join(map(re.escape, parts))
        assert any(re.search(pattern, text) for text in texts), row[0]


def test_every_command_of_the_page_exists() -> None:
    found = get_command(app).commands  # type: ignore[attr-defined]
    for words in re.findall(r"`gateway ([a-z][a-z -]*?)(?: [A-Z]+| --[a-z-]+)*`", PAGE):
        commands = found
        for word in words.split():
            assert word in commands, words
            commands = getattr(commands[word], "commands", {})


def test_keys_of_the_page_are_keys_of_a_profile() -> None:
    for part, key in re.findall(r"`(\w+)\.(\w+)(?: =[^`]*)?`", PAGE):
        if part in PARTS:  # others are gateway.toml's
            assert key in PARTS[part].model_fields, f"{part}.{key}"


def test_numbers_of_the_kernel() -> None:
    limits = section("## Limits")
    for number in (constants.MARKS, min(constants.TABLES), max(constants.TABLES)):
        assert f"`{number:#x}`" in limits
    assert f"`{constants.PRIORITIES[0]:#x}` to" in limits
    assert f"`{constants.PRIORITIES[-1]:#x}`" in limits
    assert f"`{constants.HOLD}`" in limits
    assert all(name.startswith("mn-") for name in constants.TUNNELS)
    assert f"inet {constants.TABLE}" in PAGE


def anchors(page: str) -> set[str]:
    """What links to a page may name."""
    return {
        re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-")
        for text in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }


def test_links_lead_somewhere() -> None:
    for file, anchor in re.findall(r"\]\(([\w.-]*)(?:#([^)]+))?\)", PAGE):
        page = PAGE if not file else (ROOT / "docs" / file).read_text()
        assert not anchor or anchor in anchors(page), (file, anchor)


def test_the_unit_starts_the_node() -> None:
    assert "ExecStart=/usr/bin/gateway mn run --profile /etc/gateway-mn/profile.toml" in UNIT
    assert "Restart=always" in UNIT
    assert "DeviceAllow=/dev/net/tun rw" in UNIT
    for capability in ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"):
        assert capability in UNIT
