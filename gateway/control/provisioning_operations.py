"""The built-in CA, certificates of devices, and bundles that set devices up."""

import re
from typing import TypedDict

from gateway.control.operation import (
    DEFAULT_PAGE,
    MAX_PAGE,
    NAME,
    TEXT,
    Operation,
    Parameter,
    Role,
)

PLATFORMS = (
    "gateway-mn",
    "strongswan",
    "android",
    "apple",
    "windows",
    "networkmanager",
    "other",
)
REASONS = (
    "unspecified",
    "key-compromise",
    "superseded",
    "cessation",
    "privilege-withdrawn",
)
MAX_PEM_OCTETS = 64 * 1024
DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DEVICE_WORDS = "1 to 63 letters, digits, - and _, beginning with a letter or digit"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


class AuthorityView(TypedDict):
    """A CA."""

    serial: str
    title: str
    not_before: float
    not_after: float
    has_key: bool
    """Whether it can issue here."""
    external: bool
    """Whether it is others'."""
    current: bool
    """Whether new certificates are under it."""
    fingerprint: str
    """SHA-256, in hexadecimal."""


class GatewayCertificateView(TypedDict):
    """The gateway's own certificate, when the CA issued it."""

    serial: str
    names: list[str]
    not_before: float
    not_after: float


class CrlView(TypedDict):
    """The list of revoked certificates."""

    number: int
    entries: int
    next_update: float
    pem: str


class CaView(TypedDict):
    """The result of `ca`."""

    enabled: bool
    authorities: list[AuthorityView]
    gateway: GatewayCertificateView | None
    crl_number: int | None
    crl_next_update: float | None
    pem: str
    """The certificates of the CAs."""


class CertificateView(TypedDict):
    """One of `certificates`."""

    serial: str
    purpose: str
    device: str | None
    identity: str
    not_before: float
    not_after: float
    issued_at: float
    revoked_at: float | None
    reason: str | None
    pem: str


class BundleView(TypedDict):
    """The result of `provision`, `device-bundle` and `device-rotate`."""

    device: str
    identity: str
    connection: str
    platform: str
    link: str
    """Path of the page with the one download."""
    url: str
    """The same with the gateway's name in front."""
    expires_at: float
    file_name: str
    qr_svg: str
    qr_holds: str
    """``link``, or ``profile``: all that the mobile node needs."""
    serial: str | None
    """Of the new certificate; None where the device has none."""
    not_after: float | None


class LinkView(TypedDict):
    """One of `links`."""

    id: str
    """The first octets of its hash."""
    device: str
    file_name: str
    created_at: float
    created_by: str
    expires_at: float
    used_at: float | None
    used_from: str | None


class TakenView(TypedDict):
    """The result of `link-take`."""

    device: str
    file_name: str
    media_type: str
    content: str
    """In base64."""


_DEVICE = Parameter(
    "name", str, required=True, maximum=63, pattern=DEVICE_NAME, allowed=_DEVICE_WORDS
)
_PLATFORM_PATTERN = re.compile("|".join(PLATFORMS))
_PLATFORM = Parameter(
    "platform",
    str,
    required=True,
    maximum=16,
    pattern=_PLATFORM_PATTERN,
    allowed=f"one of {', '.join(PLATFORMS)}",
)
_LIFETIME = Parameter("lifetime_days", int, minimum=1, maximum=3650)
_MINUTES = Parameter("link_minutes", int, minimum=1, maximum=10_080)
_REQUEST = Parameter("request", str, maximum=MAX_PEM_OCTETS)
"""A certificate request: the device keeps its key."""
_CERTIFICATE = Parameter("certificate", str, maximum=MAX_PEM_OCTETS)
"""That an external CA issued for the device: the device keeps its key."""
_LINK_TOKEN = Parameter(
    "token",
    str,
    required=True,
    maximum=43,
    pattern=_TOKEN,
    allowed="the last part of a link, 43 characters",
    secret=True,
)

PROVISIONING_OPERATIONS: tuple[Operation, ...] = (
    Operation("ca", "The CAs, the gateway's own certificate and the state of the CRL."),
    Operation(
        "ca-create",
        "Make a CA; in place of one only while no device has a certificate of it.",
        (
            Parameter(
                "name", str, required=True, maximum=64, pattern=TEXT, allowed="1 to 64 characters"
            ),
            Parameter(
                "algorithm",
                str,
                default="ecdsa-p256",
                maximum=10,
                pattern=re.compile("ecdsa-p256|ecdsa-p384"),
                allowed="ecdsa-p256 or ecdsa-p384",
            ),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "ca-import",
        "Use a CA of others; without its key it issues elsewhere, and certificates are uploaded.",
        (
            Parameter("certificate", str, required=True, maximum=MAX_PEM_OCTETS),
            Parameter("key", str, maximum=MAX_PEM_OCTETS, secret=True),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "certificates",
        "Certificates of devices and gateways, the newest first, a page at a time.",
        (
            Parameter("device", str, maximum=63, pattern=NAME, allowed="a device's name"),
            Parameter(
                "purpose",
                str,
                maximum=7,
                pattern=re.compile("ca|gateway|device"),
                allowed="ca, gateway or device",
            ),
            Parameter("revoked", bool),
            Parameter("limit", int, default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE),
            Parameter(
                "cursor",
                str,
                maximum=60,
                pattern=re.compile(r"[0-9a-f]{1,18}_[0-9a-f]{1,40}"),
                allowed="the `next` of the page before",
            ),
        ),
    ),
    Operation(
        "certificate-revoke",
        "Revoke a certificate for good; sessions of its device end.",
        (
            Parameter(
                "serial",
                str,
                required=True,
                maximum=40,
                pattern=_SERIAL,
                allowed="a serial number in hexadecimal, as `certificates` lists it",
            ),
            Parameter(
                "reason",
                str,
                default="unspecified",
                maximum=20,
                pattern=re.compile("|".join(REASONS)),
                allowed=f"one of {', '.join(REASONS)}",
            ),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation("crl", "The list of revoked certificates in force."),
    Operation(
        "provision",
        "Make a device: its object, its certificate, and a link to the one file that sets it up.",
        (
            _DEVICE,
            _PLATFORM,
            Parameter("identity", str, maximum=256, pattern=TEXT, allowed="an IKE identity"),
            Parameter("connection", str, maximum=63, pattern=NAME, allowed="a connection's name"),
            Parameter("user", str, maximum=253, pattern=TEXT, allowed="a user's name"),
            Parameter(
                "mobile_node",
                str,
                maximum=63,
                pattern=NAME,
                allowed="a mobile node's name as in the configuration",
            ),
            Parameter("note", str, maximum=253, pattern=TEXT, allowed="printable characters"),
            _REQUEST,
            _CERTIFICATE,
            _LIFETIME,
            _MINUTES,
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "device-bundle",
        "A new certificate and link for a device; its older certificates go on counting.",
        (
            _DEVICE,
            Parameter(
                "platform",
                str,
                maximum=16,
                pattern=_PLATFORM_PATTERN,
                allowed=f"one of {', '.join(PLATFORMS)}",
            ),
            _REQUEST,
            _CERTIFICATE,
            _LIFETIME,
            _MINUTES,
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "device-rotate",
        "A new certificate and link for a device, and the end of its older certificates.",
        (_DEVICE, _LIFETIME, _MINUTES),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "device-revoke",
        "Revoke every certificate of a device, void its links and end its sessions.",
        (_DEVICE,),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation("links", "Links that wait, were taken or expired, the newest first."),
    Operation(
        "link-look",
        "What a link leads to while it can be taken; does not take it.",
        (_LINK_TOKEN,),
        Role.NOBODY,
    ),
    Operation(
        "link-take",
        "The bundle behind a link, once.",
        (_LINK_TOKEN,),
        Role.NOBODY,
        changes=True,
    ),
)
