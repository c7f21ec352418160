"""For everything else: a page to read, with the PEM texts to paste."""

from collections.abc import Callable

from gateway.provisioning.bundle.limits import no_node_features
from gateway.provisioning.names import one_line
from gateway.provisioning.setup import Bundle, Proof, Setup

MEDIA_TYPE = "text/plain"
_PROOFS = {Proof.CERTIFICATE: "certificate", Proof.PSK: "pre-shared key"}


def make(setup: Setup, _random: Callable[[int], bytes]) -> Bundle:
    """The page. Raises :class:`ProvisioningRefusedError`."""
    no_node_features(setup, "a client of others")
    lines = [f"VPN connection of {setup.device}", ""]
    lines += [f"{key + ':':<22}{one_line(value, 2000)}" for key, value in _facts(setup)]
    for title, pem in _texts(setup):
        lines += ["", f"{title}:", pem.decode().strip()]
    return Bundle(f"{setup.device}.txt", MEDIA_TYPE, ("\n".join(lines) + "\n").encode())


def _facts(setup: Setup) -> list[tuple[str, str]]:
    found = [
        ("Gateway", setup.address),
        ("Port", f"UDP {setup.port}, behind a NAT 4500"),
        ("IKE version", str(setup.version)),
        ("Gateway identity", setup.gateway.text),
        ("Gateway proves by", _PROOFS[setup.gateway_proof]),
        ("Device identity", setup.identity.text),
        (
            "Device proves by",
            _PROOFS[setup.device_proof] if setup.device_proof else "its user alone",
        ),
    ]
    if setup.aggressive:
        found.append(("IKEv1 exchange", "aggressive mode"))
    if setup.user_methods:
        found.append(("User", setup.user or "the user's name"))
        found.append(("User logs in by", ", ".join(setup.user_methods)))
    if setup.psk is not None:
        found.append(("Pre-shared key", setup.psk))
    if setup.ppk_id is not None and setup.ppk is not None:
        found.append(("PPK identifier", setup.ppk_id))
        found.append(("PPK", setup.ppk))
    found += [
        ("IKE proposals", ", ".join(one.words for one in setup.ike)),
        ("ESP proposals", ", ".join(one.words for one in setup.esp)),
        ("Networks", ", ".join(map(str, setup.subnets)) or "everything"),
        ("Inner address", "from the gateway" if setup.inner_versions else "none"),
    ]
    if setup.dns:
        found.append(("Name servers", ", ".join(map(str, setup.dns))))
    if setup.domains:
        found.append(("Names asked there", ", ".join(setup.domains)))
    if setup.tcp_ports:
        found.append(("TCP (RFC 9329)", ", ".join(map(str, setup.tcp_ports))))
    return found


def _texts(setup: Setup) -> list[tuple[str, bytes]]:
    found = [("Certificate authority of the gateway", one) for one in setup.authorities]
    if setup.certificate is not None:
        found.append(("Certificate of the device", setup.certificate))
    if setup.private_key is not None:
        found.append(("Private key of the device, secret", setup.private_key))
    return found
