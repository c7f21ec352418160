"""Reads bundles as the programs that they are for read them."""

import configparser
import io
import os
import plistlib
import re
import tarfile
from typing import Any

from provisioning_setups import (
    by_certificate,
    subject,
)

from gateway.provisioning import bundle, ca
from gateway.provisioning.setup import Platform, Setup


def make(platform: Platform, setup: Setup) -> bytes:
    return bundle.make(platform, setup, os.urandom).content


def files(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {}
        for one in tar:
            assert not one.name.startswith("/")
            assert ".." not in one.name
            if one.isfile():
                assert one.mode == 0o600
                handle = tar.extractfile(one)
                assert handle is not None
                found[one.name] = handle.read().decode()
        return found


Tree = dict[str, Any]


def parse_swanctl(text: str) -> Tree:
    """strongswan.conf(5): sections, keys, values that may be quoted."""
    root: Tree = {}
    stack = [root]
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped == "}":
            stack.pop()
            continue
        if stripped.endswith("{"):
            name = stripped[:-1].strip()
            assert re.fullmatch(r"[A-Za-z0-9_-]+", name), name
            stack.append(stack[-1].setdefault(name, {}))
            continue
        key, _, value = stripped.partition(" = ")
        assert re.fullmatch(r"[a-z0-9_-]+", key), line
        if value.startswith('"'):
            found = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value)
            assert found is not None, line
            value = re.sub(r"\\(.)", r"\1", found[1])
        else:
            assert not set(value) & set('{}#"\\'), line
        stack[-1][key] = value
    assert len(stack) == 1
    return root


def shape(value: object) -> object:
    """Keys without values."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return None


def skeleton(script: bytes) -> str:
    """The script without its literals, read as PowerShell in any code page reads it."""
    text = script.decode("ascii")
    encoded = re.compile(
        r"\(\[Text\.Encoding\]::UTF8\.GetString\(\[Convert\]::FromBase64String\('[A-Za-z0-9+/=]*'\)\)\)"
    )
    return re.sub(r"'[^'\r\n]*'", "'...'", encoded.sub("'...'", text))


def windows_device(**changes: Any) -> Setup:
    return by_certificate(subject("laptop"), ca.KeyKind.RSA3072, **changes)


def keyfile(text: str) -> dict[str, dict[str, str]]:
    """A GLib key file, its escapes undone."""
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    undo = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    return {
        title: {
            key: re.sub(r"\\(.)", lambda found: undo[found[1]], value)
            for key, value in parser[title].items()
        }
        for title in parser.sections()
    }


def connection_of(setup: Setup) -> dict[str, dict[str, str]]:
    found = files(make(Platform.NETWORK_MANAGER, setup))
    return keyfile(found["etc/NetworkManager/system-connections/laptop.nmconnection"])


REQUIRED = {
    "Configuration": {"PayloadContent", "PayloadIdentifier", "PayloadUUID", "PayloadVersion"},
    "com.apple.security.root": {"PayloadContent", "PayloadCertificateFileName"},
    "com.apple.security.pkcs12": {"PayloadContent", "PayloadCertificateFileName", "Password"},
    "com.apple.vpn.managed": {"UserDefinedName", "VPNType", "IKEv2"},
}
IKEV2 = {
    "RemoteAddress": str,
    "RemoteIdentifier": str,
    "LocalIdentifier": str,
    "AuthenticationMethod": str,
    "ExtendedAuthEnabled": int,
    "OnDemandEnabled": int,
    "EnablePFS": int,
    "IKESecurityAssociationParameters": dict,
    "ChildSecurityAssociationParameters": dict,
}
ENCRYPTION = {"AES-128", "AES-256", "AES-128-GCM", "AES-256-GCM", "ChaCha20Poly1305"}
INTEGRITY = {"SHA1-96", "SHA1-160", "SHA2-256", "SHA2-384", "SHA2-512"}


def mobileconfig(setup: Setup) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The whole and its payloads, each checked for what it must have."""
    whole = plistlib.loads(make(Platform.APPLE, setup))
    payloads = {one["PayloadType"]: one for one in whole["PayloadContent"]}
    seen = set()
    for one in (whole, *whole["PayloadContent"]):
        assert REQUIRED[one["PayloadType"]] <= set(one)
        assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", one["PayloadUUID"])
        assert one["PayloadVersion"] == 1
        seen |= {one["PayloadUUID"], one["PayloadIdentifier"]}
    assert len(seen) == 2 * (1 + len(whole["PayloadContent"]))
    vpn = payloads["com.apple.vpn.managed"]["IKEv2"]
    for key, kind in IKEV2.items():
        assert isinstance(vpn[key], kind), key
    for key in ("IKESecurityAssociationParameters", "ChildSecurityAssociationParameters"):
        assert vpn[key]["EncryptionAlgorithm"] in ENCRYPTION
        assert vpn[key]["IntegrityAlgorithm"] in INTEGRITY
        assert vpn[key]["DiffieHellmanGroup"] in {14, 15, 16, 19, 20, 21, 31}
        assert 10 <= vpn[key]["LifeTimeInMinutes"] <= 1440
    return whole, payloads
