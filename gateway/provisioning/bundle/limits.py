"""What platforms cannot do, said before anything is made."""

from gateway.provisioning.setup import Proof, Setup, require


def no_node_features(setup: Setup, platform: str) -> None:
    """Refuse what only our mobile node can do. Raises ProvisioningRefusedError."""
    why = f'{platform} cannot do it and the connection demands it: set it to "allowed"'
    require(setup.only_ours is None, setup.only_ours or "", why)


def common_limits(setup: Setup, platform: str) -> None:
    """Refuse what the clients of operating systems cannot do. Raises ProvisioningRefusedError."""
    no_node_features(setup, platform)
    require(setup.version == 2, "ike_version", f"{platform} has IKEv2 only: set ike_version = 2")
    why = f"{platform} has no post-quantum shared key (RFC 8784): set ppk_required = false"
    require(not setup.ppk_required, "ppk_required", why)
    why = f"{platform} wants an inner address from the gateway: give the connection a pool"
    require(setup.inner_versions, "pool", why)


def one_proof(setup: Setup, platform: str) -> None:
    """Refuse a device and a user that both log in. Raises ProvisioningRefusedError."""
    both = setup.device_proof is not None and bool(setup.user_methods)
    why = (
        f'{platform} proves a device or a user, not one after the other: set remote_auth = "user",'
        " or take user_auth away"
    )
    require(not both, "user_auth", why)


def gateway_certificate(setup: Setup, platform: str) -> None:
    """Refuse a gateway that proves itself with a shared key. Raises ProvisioningRefusedError."""
    why = f'{platform} wants a certificate of the gateway: set local_auth = "certificate"'
    require(setup.gateway_proof is Proof.CERTIFICATE, "local_auth", why)


def no_psk(setup: Setup, platform: str) -> None:
    """Refuse shared keys altogether. Raises ProvisioningRefusedError."""
    gateway_certificate(setup, platform)
    why = f'{platform} has no shared keys in IKEv2: set remote_auth = "certificate" or "user"'
    require(setup.device_proof is not Proof.PSK, "remote_auth", why)
