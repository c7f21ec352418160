"""The annotated example of a profile is complete, and every line of it is right."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.cli.mn_profile import example_text
from gateway.config.profile import Profile, load_profile
from gateway.config.to_node import node_policy

ROOT = Path(__file__).parents[3]


def _model(annotation: object) -> type[BaseModel]:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    (found,) = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
    return found


SECTIONS = {name: _model(field.annotation) for name, field in Profile.model_fields.items()}
REQUIRED: dict[str, dict[str, object]] = {"gateway": {"address": "192.0.2.1"}}
BY_HAND = ("home_agent", "home_address", "home_network", "spi", "key = ")


def settings(text: str) -> Iterator[tuple[str, str, bool]]:
    """Section, line without its comment mark, and whether it is in force."""
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif found := re.fullmatch(r"(#?)(\w+ = .+)", line):
            yield section, found[2], not found[1]


SETTINGS = list(settings(example_text()))


def test_loads_without_its_files(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(example_text())
    profile = load_profile(path, with_files=False)
    assert profile.warnings == ()
    assert profile.gateway is not None
    assert profile.gateway.address == "gw.example.com"


@pytest.mark.parametrize("section", SECTIONS)
def test_names_every_field_once(section: str) -> None:
    given = [line.split(" = ")[0] for where, line, _ in SETTINGS if where == section]
    assert sorted(given) == sorted(SECTIONS[section].model_fields)


def test_has_no_other_section() -> None:
    assert {section for section, _, _ in SETTINGS} == set(SECTIONS)


@pytest.mark.parametrize(("section", "line", "_active"), SETTINGS)
def test_each_line_is_valid_by_itself(section: str, line: str, _active: bool) -> None:
    SECTIONS[section].model_validate({**REQUIRED.get(section, {}), **tomllib.loads(line)})


@pytest.mark.parametrize(("section", "line", "active"), SETTINGS)
def test_commented_scalars_show_the_default(section: str, line: str, active: bool) -> None:
    key, value = next(iter(tomllib.loads(line).items()))
    model = SECTIONS[section]
    default = model.model_fields[key].default
    if active or default in {None, ()} or default is PydanticUndefined:
        return
    if isinstance(value, list) and key not in {"tcp_ports", "networks"}:
        return
    assert getattr(model.model_validate({**REQUIRED.get(section, {}), key: value}), key) == default


def test_home_agents_by_hand_can_be_used(tmp_path: Path) -> None:
    lines = [
        line.removeprefix("#") if line.removeprefix("#").startswith(BY_HAND) else line
        for line in example_text().splitlines()
    ]
    path = tmp_path / "profile.toml"
    path.write_text("\n".join(lines))
    policy = node_policy(load_profile(path, with_files=False))
    assert policy.internal is not None
    assert policy.external is not None
    assert policy.external.zero_overhead


def test_the_copy_in_docs_is_the_same() -> None:
    assert (ROOT / "docs" / "profile.toml.example").read_text() == example_text()


def test_minimum_is_short() -> None:
    assert sum(active for _, _, active in SETTINGS) <= 8
