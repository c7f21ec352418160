"""What platforms cannot do is refused, with the setting to change."""

import dataclasses
import os
from typing import Any

import pytest
from provisioning_readers import make, windows_device
from provisioning_setups import (
    ESP,
    IKE,
    by_certificate,
    by_psk,
    by_user,
    host,
    mail,
)

from gateway.provisioning import bundle
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Platform, Proof, Setup, Suite

# -- refusals ------------------------------------------------------------------------------

PHONES = (Platform.ANDROID, Platform.APPLE, Platform.WINDOWS, Platform.NETWORK_MANAGER)


@pytest.mark.parametrize("platform", PHONES)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 1}, "ike_version"),
        ({"ppk_id": "x", "ppk": "y", "ppk_required": True}, "ppk_required"),
        ({"inner_versions": ()}, "pool"),
        ({"only_ours": "connections.staff.vpn_fa"}, "connections.staff.vpn_fa"),
    ],
)
def test_what_a_platform_cannot_do_is_refused_with_the_setting(
    platform: Platform, changes: dict[str, Any], field: str
) -> None:
    setup = by_user(**changes)
    with pytest.raises(ProvisioningRefusedError) as refused:
        make(platform, setup)
    assert refused.value.field == field
    assert len(refused.value.why) > 20


@pytest.mark.parametrize(
    ("platform", "setup", "field"),
    [
        (Platform.ANDROID, by_psk(), "local_auth"),
        (Platform.WINDOWS, by_psk(), "local_auth"),
        (Platform.WINDOWS, by_psk(gateway_proof=Proof.CERTIFICATE), "remote_auth"),
        (Platform.WINDOWS, by_certificate(), "identity"),
        (Platform.WINDOWS, windows_device(gateway=host("other.example.com")), "local_id"),
        (Platform.WINDOWS, windows_device(port=5000), "ike.port"),
        (Platform.WINDOWS, windows_device(force_encapsulation=True), "encapsulation"),
        (Platform.WINDOWS, by_user(any_identity=False), "remote_id"),
        (Platform.WINDOWS, by_user(user_methods=("eap-gtc",)), "user_auth"),
        (Platform.APPLE, windows_device(), "identity"),
        (Platform.APPLE, by_psk(gateway_proof=Proof.CERTIFICATE), "local_auth"),
        (Platform.APPLE, by_user(user_methods=("eap-gtc",)), "user_auth"),
        (Platform.APPLE, by_certificate(user="a", user_methods=("eap-mschapv2",)), "user_auth"),
        (Platform.APPLE, by_user(gateway_proof=Proof.PSK), "local_auth"),
        (Platform.ANDROID, by_user(any_identity=False, identity=mail("x@y.z")), "identity"),
        (Platform.GATEWAY_MN, by_user(address="2001:db8::1"), "provisioning.address"),
        (Platform.STRONGSWAN, by_user(only_ours="x.vpn_fa"), "x.vpn_fa"),
        (Platform.OTHER, by_user(only_ours="x.vpn_fa"), "x.vpn_fa"),
    ],
)
def test_a_combination_that_cannot_work_is_refused(
    platform: Platform, setup: Setup, field: str
) -> None:
    with pytest.raises(ProvisioningRefusedError) as refused:
        make(platform, setup)
    assert refused.value.field == field


@pytest.mark.parametrize("platform", [Platform.APPLE, Platform.WINDOWS])
def test_proposals_that_a_platform_lacks_are_refused_with_what_it_knows(
    platform: Platform,
) -> None:
    setup = windows_device() if platform is Platform.WINDOWS else by_certificate()
    strange = Suite(("aes256gcm16",), (), ("prfsha384",), ("mlkem768",))
    with pytest.raises(ProvisioningRefusedError, match="ecp256") as refused:
        make(platform, dataclasses.replace(setup, ike=(strange,)))
    assert refused.value.field == "ike_proposals"
    hybrid = dataclasses.replace(IKE, additional=("ke1_mlkem768",))
    with pytest.raises(ProvisioningRefusedError):
        make(platform, dataclasses.replace(setup, ike=(hybrid,)))
    only_esn = dataclasses.replace(ESP, esn=(True,))
    with pytest.raises(ProvisioningRefusedError, match="noesn") as refused:
        make(platform, dataclasses.replace(setup, esp=(only_esn,)))
    assert refused.value.field == "esp_proposals"


def test_android_without_esn_is_refused_where_esn_is_demanded() -> None:
    setup = by_user(esp=(dataclasses.replace(ESP, esn=(True,)),))
    with pytest.raises(ProvisioningRefusedError, match="noesn"):
        make(Platform.ANDROID, setup)


def test_secrets_are_in_no_repr() -> None:
    setup = by_psk(ppk_id="x", ppk="the ppk itself")
    assert "a shared key of some length" not in repr(setup)
    assert "the ppk itself" not in repr(setup)
    assert "PRIVATE" not in repr(by_certificate())
    assert "PRIVATE" not in repr(bundle.make(Platform.OTHER, by_certificate(), os.urandom))
