"""``[provisioning]``: certificates for devices, and files that set them up."""

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from gateway.config.fields import FilePath, Flag, Section, Url, Whole, refused, text_of


def _host(value: object) -> str:
    text = text_of(value, '"vpn.example.com"').strip()
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:")
    if not text or len(text) > 253 or not set(text) <= allowed:
        raise refused('not a host name or address; give one such as "vpn.example.com"')
    return text


HostText = Annotated[str, PlainValidator(_host, json_schema_input_type=str)]


class ProvisioningSection(Section):
    """``[provisioning]``: a CA for devices, and bundles that set them up."""

    enabled: Flag = False
    address: HostText | None = None
    """Host name or address that devices connect to; without it, ``gateway.name``."""
    url: Url | None = None
    """How devices reach the REST interface; without it, by ``api.names`` or ``api.listen``."""
    ca_name: str = Field(default="Gateway device CA", min_length=1, max_length=64)
    """Common name of the built-in CA, when it is made."""
    ca_certificate: FilePath | None = None
    """An external CA in place of the built-in one, PEM."""
    ca_private_key: FilePath | None = None
    ca_days: Whole = Field(default=3650, ge=1, le=36_500)
    gateway_days: Whole = Field(default=397, ge=1, le=825)
    device_days: Whole = Field(default=365, ge=1, le=3650)
    """How long certificates of devices are good for."""
    gateway_key: Literal["rsa-3072", "ecdsa-p256"] = "rsa-3072"
    """Some clients of phones and of Windows know gateways with RSA alone, as does IKEv1."""
    crl_days: Whole = Field(default=7, ge=1, le=365)
    link_minutes: Whole = Field(default=60, ge=1, le=10_080)
    """How long a link waits for its one download."""
