"""Certificate and key in one file, as the platforms' key stores take it."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from gateway.provisioning.ca import PrivateKey
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Setup

_ROUNDS = 2048
"""Each platform's limit is elsewhere; the password is random, so they add nothing."""


def pkcs12_of(setup: Setup, password: str) -> bytes:
    """The device's certificate, its key and the CAs above.

    It has the old encryption (3DES, SHA-1), the only one that every iOS, macOS and
    Windows takes; what protects the file is that it is given out once, over TLS. Raises
    :class:`ProvisioningRefusedError` where the device keeps its key.
    """
    if setup.certificate is None or setup.private_key is None:
        why = "the device's key is not here (it came as a request); take strongswan or other"
        raise ProvisioningRefusedError("platform", why)
    key = load_pem_private_key(setup.private_key, None)
    if not isinstance(key, PrivateKey):
        raise TypeError("devices' keys are ECDSA or RSA")
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - see above
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(
        setup.device.encode(),
        key,
        x509.load_pem_x509_certificate(setup.certificate),
        [x509.load_pem_x509_certificate(one) for one in setup.authorities],
        encryption,
    )
