"""Secrets appear nowhere: not in repr, not in errors, not in differences, not in listings."""

import json
import traceback

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.cli.config import as_toml, redacted
from gateway.config import ConfigError, load
from gateway.config.difference import difference

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


def test_not_in_differences(workshop: Workshop) -> None:
    changes = difference(workshop.load(PSK), workshop.load(PSK.replace(SECRET, SECRET + "x")))
    assert [change.key for change in changes] == ["connections.staff.psk"]
    assert SECRET not in repr(changes) + str(changes[0])
