"""Identities of the IKE engine as the bundles name them."""

from gateway.ike.auth.identity import Identity
from gateway.ike.registry import IdType
from gateway.provisioning.names import Kind, PeerName

_KINDS = {
    IdType.FQDN: Kind.FQDN,
    IdType.RFC822_ADDR: Kind.EMAIL,
    IdType.IPV4_ADDR: Kind.ADDRESS,
    IdType.IPV6_ADDR: Kind.ADDRESS,
    IdType.DER_ASN1_DN: Kind.SUBJECT,
    IdType.KEY_ID: Kind.KEY_ID,
}
_PREFIXES = {Kind.FQDN: "fqdn:", Kind.EMAIL: "email:"}


def peer_name(identity: Identity) -> PeerName:
    """The identity; it must be well formed, as :meth:`Identity.parse` makes it."""
    kind = _KINDS[IdType(identity.type)]
    found = identity.distinguished_name() or ()
    attributes = tuple(attribute for rdn in found for attribute in rdn)
    text = str(identity)
    if not _same(text, identity) and kind in _PREFIXES:
        text = _PREFIXES[kind] + text
    if kind is Kind.KEY_ID and not _same(text, identity):
        text = f"keyid:0x{identity.data.hex()}"
    return PeerName(kind, identity.data, attributes, text)


def _same(text: str, identity: Identity) -> bool:
    try:
        return Identity.parse(text) == identity
    except ValueError:
        return False
