"""For Windows 10 and 11: a PowerShell script that makes the connection."""

import base64
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.provisioning.bundle.limits import common_limits, no_psk, one_proof
from gateway.provisioning.names import Kind, one_line
from gateway.provisioning.pkcs12 import pkcs12_of
from gateway.provisioning.quoting import powershell
from gateway.provisioning.setup import Bundle, Proof, Setup, require
from gateway.provisioning.suites import Words, choose_esp, choose_ike

MEDIA_TYPE = "text/plain"
_NAME = "Windows"
_X509 = "Security.Cryptography.X509Certificates"
_KEPT = "'MachineKeySet,PersistKeySet'"
_FILTER = "MachineCertificateIssuerFilter"
"""Which of several machine certificates is shown; older Windows cannot be told."""
_CIPHERS = {
    "aes256gcm16": "GCMAES256",
    "aes128gcm16": "GCMAES128",
    "aes256": "AES256",
    "aes192": "AES192",
    "aes128": "AES128",
    "3des": "DES3",
}
_ESP_CIPHERS = {"aes192gcm16": "GCMAES192", **_CIPHERS}
_HASHES = {"sha384": "SHA384", "sha256": "SHA256", "sha1": "SHA1"}
_ESP_HASHES = {"sha256": "SHA256128", "sha1": "SHA196"}
_GROUPS = {"ecp384": "ECP384", "ecp256": "ECP256", "modp2048": "Group14", "modp1024": "Group2"}
_PFS = {"ecp384": "ECP384", "ecp256": "ECP256", "modp2048": "PFS2048", "modp1024": "PFS2"}
_WORDS = Words(_NAME, _CIPHERS, _ESP_CIPHERS, _HASHES, _ESP_HASHES, _GROUPS, _PFS)


def make(setup: Setup, random: Callable[[int], bytes]) -> Bundle:
    """The script, ASCII with Windows' line ends. Raises :class:`ProvisioningRefusedError`."""
    _limits(setup)
    lines = [
        f"# {setup.device}: makes a VPN connection. It holds secrets: delete it afterwards.",
        "# In PowerShell as administrator:",
        f"#   powershell -ExecutionPolicy Bypass -File {setup.device}.ps1",
        "#Requires -RunAsAdministrator",
        "$ErrorActionPreference = 'Stop'",
        f"$name = {powershell(one_line(setup.title, 60) + ' (' + setup.device + ')')}",
        f"$server = {powershell(setup.address)}",
        *_authorities(setup),
        *_identity(setup, random),
        *_connection(setup),
        *_algorithms(setup),
        *_routes(setup),
        'Write-Output "The connection is there: Settings, Network, VPN."',
    ]
    content = "\r\n".join(lines) + "\r\n"
    return Bundle(f"{setup.device}.ps1", MEDIA_TYPE, content.encode("ascii"))


def _limits(setup: Setup) -> None:
    common_limits(setup, _NAME)
    no_psk(setup, _NAME)
    one_proof(setup, _NAME)
    why = "Windows expects the host name or address that it connects to: set local_id to that"
    require(setup.gateway.plain == setup.address, "local_id", why)
    require(setup.port == 500, "ike.port", "Windows knows port 500 only: set port = 500")
    why = 'Windows encapsulates only behind a NAT: set encapsulation = "auto"'
    require(not setup.force_encapsulation, "encapsulation", why)
    if setup.device_proof is Proof.CERTIFICATE:
        why = (
            "Windows shows the subject of its certificate: give the device an identity such as"
            f' "CN={setup.device}" that remote_id takes'
        )
        require(setup.identity.kind is Kind.SUBJECT, "identity", why)
        return
    able = {"eap-mschapv2", "eap-radius"} & set(setup.user_methods)
    require(able, "user_auth", 'Windows logs users in by password: add "eap-mschapv2"')
    why = (
        'Windows shows its address as identity before the user logs in: set remote_id = "*", '
        "and user_names to the users that may log in"
    )
    require(setup.any_identity, "remote_id", why)


def _authorities(setup: Setup) -> list[str]:
    lines = [
        f"$root = New-Object {_X509}.X509Store 'Root','LocalMachine'",
        "$root.Open('ReadWrite')",
    ]
    for pem in setup.authorities:
        octets = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        lines += [
            f"$data = [Convert]::FromBase64String('{_base64(octets)}')",
            f"$issuer = New-Object {_X509}.X509Certificate2 -ArgumentList (,$data)",
            "$root.Add($issuer)",
        ]
    return [*lines, "$root.Close()"]


def _identity(setup: Setup, random: Callable[[int], bytes]) -> list[str]:
    if setup.device_proof is not Proof.CERTIFICATE:
        return []
    password = random(16).hex()
    return [
        f"$data = [Convert]::FromBase64String('{_base64(pkcs12_of(setup, password))}')",
        f"$own = New-Object {_X509}.X509Certificate2 -ArgumentList $data,'{password}',{_KEPT}",
        f"$my = New-Object {_X509}.X509Store 'My','LocalMachine'",
        "$my.Open('ReadWrite')",
        "$my.Add($own)",
        "$my.Close()",
    ]


def _connection(setup: Setup) -> list[str]:
    by_certificate = setup.device_proof is Proof.CERTIFICATE
    options = [
        "-Name $name",
        "-ServerAddress $server",
        "-TunnelType Ikev2",
        f"-AuthenticationMethod {'MachineCertificate' if by_certificate else 'Eap'}",
        "-EncryptionLevel Maximum",
        "-AllUserConnection",
        "-Force",
    ]
    if setup.splits:
        options.append("-SplitTunneling")
    if not by_certificate:
        options.append("-RememberCredential")
    if setup.domains:
        options.append(f"-DnsSuffix {powershell(setup.domains[0])}")
    lines = [
        "Remove-VpnConnection -Name $name -AllUserConnection -Force -ErrorAction SilentlyContinue",
        f"Add-VpnConnection {' '.join(options)}",
    ]
    if by_certificate and setup.authorities:
        lines += [
            f"if ((Get-Command Set-VpnConnection).Parameters.ContainsKey('{_FILTER}')) {{",
            f"  Set-VpnConnection -Name $name -AllUserConnection -{_FILTER} $issuer -Force",
            "}",
        ]
    return lines


def _algorithms(setup: Setup) -> list[str]:
    ike, esp = choose_ike(_WORDS, setup.ike), choose_esp(_WORDS, setup.esp)
    options = [
        "-ConnectionName $name",
        f"-AuthenticationTransformConstants {esp.encryption if esp.aead else esp.hash}",
        f"-CipherTransformConstants {esp.encryption}",
        f"-EncryptionMethod {ike.encryption}",
        f"-IntegrityCheckMethod {ike.hash}",
        f"-DHGroup {ike.group}",
        f"-PfsGroup {esp.group or 'None'}",
        "-AllUserConnection",
        "-Force",
    ]
    return [f"Set-VpnConnectionIPsecConfiguration {' '.join(options)}"]


def _routes(setup: Setup) -> list[str]:
    return [
        f"Add-VpnConnectionRoute $name -DestinationPrefix '{one}' -AllUserConnection"
        for one in setup.subnets
    ]


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
