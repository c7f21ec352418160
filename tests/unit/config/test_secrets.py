"""Secrets appear nowhere: not in repr, not in errors, not in differences, not in listings."""

import json
import tomllib
import traceback
from ipaddress import IPv4Address

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.cli.config import as_toml, redacted
from gateway.config import ConfigError, load
from gateway.config.difference import difference
from gateway.config.to_mobility import home_agents

ADDRESS = IPv4Address("10.20.0.10")
SECRET = "Tr0ub4dor-and-3-more-words"
PSK = MINIMAL.replace(
    "[connections.staff]",
    f'[connections.staff]\nremote_auth = "psk"\nlocal_auth = "psk"\npsk = "{SECRET}"',
)


def test_not_in_the_configurations_text(workshop: Workshop) -> None:
    config = workshop.load(PSK)
    secret = config.connections["staff"].psk
    assert secret is not None
    assert secret.get_secret_value() == SECRET
    texts = [repr(config), str(config), config.model_dump_json(), f"{config.warnings}"]
    texts += [json.dumps(redacted(config)), as_toml(redacted(config))]
    assert all(SECRET not in text for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        PSK.replace("psk = ", "psks = "),
        PSK.replace("psk = ", "pks = "),
        PSK.replace(f'psk = "{SECRET}"', f'psk = ["{SECRET}"]'),
        PSK.replace(f'psk = "{SECRET}"', f'psk = {{ secret = "{SECRET}" }}'),
        PSK.replace(f'psk = "{SECRET}"', f'psk = "{SECRET}"\npsk = "{SECRET}"'),
        PSK.replace(f'psk = "{SECRET}"', f"psk = {SECRET}"),
        PSK.replace(f'psk = "{SECRET}"', f'psk = "{SECRET}'),
        PSK.replace(f'psk = "{SECRET}"', f'psk = "{SECRET}\\q"'),
        PSK.replace("[connections.staff]", "[credentials.staff]"),
        PSK.replace("[connections.staff]", "[[connections.staff]]"),
        PSK.replace('pool = "staff"', 'pool = "none"'),
        PSK.replace("psk = ", 'psk_file = "none"\npsk = '),
        f'[connections]\nstaff = ["{SECRET}"]\n',
    ],
)
def test_not_in_errors(workshop: Workshop, text: str) -> None:
    path = workshop.write(text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.problems)
    assert SECRET not in shown


KEY = "8f1d03c6a94e57b2e06f7c12d5983ba4"
NEXT = "c2b90e7745d1f86a3390ae6d1c5b42f7"
AGENTS = f"""
[home_networks.inner]
network = "10.20.0.0/24"
[home_agents.outside]
address = "10.20.0.1"
placement = "outside"
home_networks = ["inner"]
[mobile_nodes.ann]
home_address = "10.20.0.10"
spi = 256
key = "{KEY}"
[[mobile_nodes.ann.keys]]
spi = 257
key = "{NEXT}"
"""


def test_keys_of_mobile_nodes_are_in_no_text(workshop: Workshop) -> None:
    config = workshop.load(AGENTS)
    shown = as_toml(redacted(config))
    texts = [repr(config), str(config), config.model_dump_json(), json.dumps(redacted(config))]
    policies = home_agents(config)
    texts += [shown, repr(policies), repr(policies[0].nodes.by_home_address(ADDRESS))]
    assert all(secret not in text for text in texts for secret in (KEY, NEXT))
    assert policies[0].nodes.by_home_address(ADDRESS) is not None
    tables = tomllib.loads(shown)
    assert [one["spi"] for one in tables["mobile_nodes"]["ann"]["keys"]] == [257]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f'key = "{KEY}"', f'key = ["{KEY}"]'),
        (f'key = "{KEY}"', f'kye = "{KEY}"'),
        (f'key = "{KEY}"', f'key = "{KEY[:20]}"'),
        (f'key = "{KEY}"', f'key = "{KEY}zz"'),
        (f'key = "{KEY}"', f'key = "base64:{KEY[:21]}"'),
        ("[[mobile_nodes.ann.keys]]\nspi = 257\nkey = ", "keys = "),
        ("spi = 257", "spi = 1"),
        ("[mobile_nodes.ann]", "[mobile_nodes.ann.x]"),
    ],
)
def test_keys_of_mobile_nodes_are_not_in_errors(workshop: Workshop, old: str, new: str) -> None:
    assert old in AGENTS
    path = workshop.write(AGENTS.replace(old, new, 1))
    with pytest.raises(ConfigError) as refused:
        load(path)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.problems)
    assert not any(secret[:20] in shown for secret in (KEY, NEXT))


def test_keys_of_mobile_nodes_are_not_in_differences(workshop: Workshop) -> None:
    other = AGENTS.replace(KEY, KEY[::-1]).replace(NEXT, NEXT[::-1])
    changes = difference(workshop.load(AGENTS), workshop.load(other))
    assert [one.key for one in changes] == ["mobile_nodes.ann.key", "mobile_nodes.ann.keys"]
    text = repr(changes) + "".join(map(str, changes))
    assert not any(one in text for secret in (KEY, NEXT) for one in (secret, secret[::-1]))


def test_not_in_differences(workshop: Workshop) -> None:
    changes = difference(workshop.load(PSK), workshop.load(PSK.replace(SECRET, SECRET + "x")))
    assert [change.key for change in changes] == ["connections.staff.psk"]
    assert SECRET not in repr(changes) + str(changes[0])
