"""For strongSwan: what belongs into ``/etc/swanctl``, as a tar archive."""

from collections.abc import Callable, Iterable

from gateway.provisioning.archive import tar
from gateway.provisioning.bundle.limits import no_node_features
from gateway.provisioning.names import one_line
from gateway.provisioning.quoting import swan, swan_secret
from gateway.provisioning.setup import Bundle, Proof, Setup
from gateway.provisioning.suites import for_strongswan

MEDIA_TYPE = "application/x-tar"
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
_ANY = {version: network.partition("/")[0] for version, network in _EVERYTHING.items()}
_METHODS = {
    "eap-mschapv2": "eap-mschapv2",
    "eap-tls": "eap-tls",
    "eap-gtc": "eap-gtc",
    "eap-radius": "eap",
    "xauth": "xauth",
}

Lines = list[str]


def make(setup: Setup, _random: Callable[[int], bytes]) -> Bundle:
    """The archive. Raises :class:`ProvisioningRefusedError`."""
    no_node_features(setup, "strongSwan")
    name = setup.device
    files = {f"conf.d/{name}.conf": configuration(setup).encode()}
    for number, authority in enumerate(setup.authorities, 1):
        files[f"x509ca/{name}-ca{number}.pem"] = authority
    if setup.certificate is not None:
        files[f"x509/{name}.pem"] = setup.certificate
    if setup.private_key is not None:
        files[f"pkcs8/{name}.pem"] = setup.private_key
    return Bundle(f"{name}-swanctl.tar", MEDIA_TYPE, tar(files))


def configuration(setup: Setup) -> str:
    """The content of its swanctl.conf."""
    name = setup.device
    lines = [
        f"# {setup.device} at {one_line(setup.title)}. Set it up with:",
        f"#   sudo tar -xf {setup.device}-swanctl.tar -C /etc/swanctl --no-same-owner",
        f"#   sudo swanctl --load-all && sudo swanctl --initiate --child {name}",
        "connections {",
        *_block(name, _connection(setup), 1),
        "}",
    ]
    secrets = _secrets(setup)
    if secrets:
        lines += ["secrets {", *secrets, "}"]
    return "\n".join(lines) + "\n"


def _block(name: str, lines: Iterable[str], depth: int) -> Lines:
    pad = "  " * depth
    return [f"{pad}{name} {{", *(f"{pad}  {one}" for one in lines), f"{pad}}}"]


def _connection(setup: Setup) -> Lines:
    lines = [
        f"version = {setup.version}",
        f"remote_addrs = {swan(setup.address)}",
        f"proposals = {', '.join(for_strongswan(setup.ike))}",
        f"mobike = {_yes(setup.mobike)}",
        f"encap = {_yes(setup.force_encapsulation)}",
        "dpd_delay = 30s",
    ]
    if setup.port != 500:
        lines.append(f"remote_port = {setup.port}")
    if setup.version == 1:
        lines.append(f"aggressive = {_yes(setup.aggressive)}")
    if setup.inner_versions:
        lines.append("vips = " + ", ".join(_ANY[one] for one in setup.inner_versions))
    if setup.ppk_id is not None:
        lines += [f"ppk_id = {swan(setup.ppk_id)}", f"ppk_required = {_yes(setup.ppk_required)}"]
    for number, round_ in enumerate(_local_rounds(setup), 1):
        lines += _block(f"local-{number}", round_, 0)
    lines += _block("remote", _remote(setup), 0)
    lines += _block("children", _block(setup.device, _child(setup), 0), 0)
    return lines


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _local_rounds(setup: Setup) -> list[Lines]:
    rounds = []
    identity = f"id = {swan(setup.identity.swan)}"
    if setup.device_proof is not None:
        word = "psk" if setup.device_proof is Proof.PSK else "pubkey"
        rounds.append([f"auth = {word}", identity, *_certificate(setup, Proof.CERTIFICATE)])
    if setup.user_methods:
        method = _METHODS[setup.user_methods[0]]
        key = "xauth_id" if method == "xauth" else "eap_id"
        lines = [f"auth = {method}"]
        if setup.user is not None:
            lines.append(f"{key} = {swan(setup.user)}")
        if not rounds:
            lines.append(identity)
        if method == "eap-tls":
            lines += _certificate(setup, None)
        rounds.append(lines)
    return rounds


def _certificate(setup: Setup, proof: Proof | None) -> Lines:
    if setup.certificate is None or setup.device_proof is not proof:
        return []
    return [f"certs = {setup.device}.pem"]


def _remote(setup: Setup) -> Lines:
    lines = [f"id = {swan(setup.gateway.swan)}"]
    if setup.gateway_proof is Proof.PSK:
        return ["auth = psk", *lines]
    files = [f"{setup.device}-ca{number}.pem" for number, _ in enumerate(setup.authorities, 1)]
    return ["auth = pubkey", *lines, f"cacerts = {', '.join(files)}"]


def _child(setup: Setup) -> Lines:
    everything = [_EVERYTHING[one] for one in setup.inner_versions or (4,)]
    reached = [str(one) for one in setup.subnets] or everything
    return [
        f"remote_ts = {', '.join(reached)}",
        f"esp_proposals = {', '.join(for_strongswan(setup.esp))}",
        "dpd_action = restart",
    ]


def _secrets(setup: Setup) -> Lines:
    name, lines = setup.device, []
    if setup.psk is not None:
        entries = [
            f"id-1 = {swan(setup.gateway.swan)}",
            f"id-2 = {swan(setup.identity.swan)}",
            f"secret = {swan_secret(setup.psk)}",
        ]
        lines += _block(f"ike-{name}", entries, 1)
    asks = setup.user is not None and setup.user_methods[:1] not in {(), ("eap-tls",)}
    if asks and setup.user is not None:
        word = "xauth" if setup.user_methods[0] == "xauth" else "eap"
        entries = [
            f"id = {swan(setup.user)}",
            "# the user's password, which the gateway does not know:",
        ]
        lines += _block(f"{word}-{name}", [*entries, '# secret = "..."'], 1)
    if setup.ppk is not None and setup.ppk_id is not None:
        entries = [f"id = {swan(setup.ppk_id)}", f"secret = {swan_secret(setup.ppk)}"]
        lines += _block(f"ppk-{name}", entries, 1)
    return lines
