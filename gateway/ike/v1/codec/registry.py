"""IANA's IKEv1 numbers that this gateway knows (RFC 2407 to 2409, 3706, 3947 and the drafts).

Numbers on the wire that are not listed here stay plain integers: they never become members.
"""

from enum import IntEnum, IntFlag


class PayloadType(IntEnum):
    """Next Payload values (RFC 2408 section 3.1)."""

    NONE = 0
    SA = 1
    PROPOSAL = 2
    TRANSFORM = 3
    KE = 4
    ID = 5
    CERT = 6
    CERTREQ = 7
    HASH = 8
    SIG = 9
    NONCE = 10
    NOTIFY = 11
    DELETE = 12
    VENDOR_ID = 13
    ATTRIBUTES = 14
    """Of mode configuration and XAUTH."""
    NAT_D = 20
    NAT_OA = 21
    NAT_D_DRAFT = 130
    """Of draft-ietf-ipsec-nat-t-ike-02 and -03."""
    NAT_OA_DRAFT = 131
    FRAGMENT = 132
    """Cisco's IKE fragmentation."""
    FA_ADVERTISEMENT = 201
    """Private: the foreign agent advertisement of a gateway (draft 001, appendix B.2)."""


class ExchangeType(IntEnum):
    """Exchange types."""

    BASE = 1
    IDENTITY_PROTECTION = 2
    """Main mode."""
    AUTHENTICATION_ONLY = 3
    AGGRESSIVE = 4
    INFORMATIONAL = 5
    TRANSACTION = 6
    """Mode configuration and XAUTH."""
    QUICK = 32
    NEW_GROUP = 33


class Flag(IntFlag):
    """Header flags (RFC 2408 section 3.1)."""

    ENCRYPTION = 1
    COMMIT = 2
    AUTHENTICATION_ONLY = 4


class Doi(IntEnum):
    """Domains of interpretation."""

    ISAKMP = 0
    IPSEC = 1


class Situation(IntFlag):
    """What the IPsec DOI demands of an SA (RFC 2407 section 4.2)."""

    IDENTITY_ONLY = 1
    SECRECY = 2
    INTEGRITY = 4


class ProtocolId(IntEnum):
    """Security protocols (RFC 2407 section 4.4.1)."""

    ISAKMP = 1
    AH = 2
    ESP = 3
    IPCOMP = 4


KEY_IKE = 1
"""The only transform of phase 1 (RFC 2407 section 4.4.2)."""


class EspTransform(IntEnum):
    """ESP transforms (RFC 2407 section 4.4.4, RFC 3602, RFC 4106)."""

    TRIPLE_DES = 3
    NULL = 11
    AES_CBC = 12
    AES_GCM_16 = 20


class IpsecAttribute(IntEnum):
    """Attributes of SAs of the IPsec DOI (RFC 2407 section 4.5, IANA's registry)."""

    LIFE_TYPE = 1
    LIFE_DURATION = 2
    GROUP_DESCRIPTION = 3
    ENCAPSULATION_MODE = 4
    AUTHENTICATION_ALGORITHM = 5
    KEY_LENGTH = 6
    KEY_ROUNDS = 7
    EXTENDED_SEQUENCE_NUMBER = 11
    VPN_FA = 32201
    """Private: the foreign agent in the gateway serves this SA (draft 001, appendix B)."""
    ENDPOINT_UPDATE = 32202
    """Private: SA endpoint update on this SA (draft 001, appendix C)."""


class LifeType(IntEnum):
    """Units of Life Duration, in both phases."""

    SECONDS = 1
    KILOBYTES = 2


class EncapsulationMode(IntEnum):
    """Encapsulation modes (RFC 2407 section 4.5, RFC 3947 section 5.1, the NAT-T drafts)."""

    TUNNEL = 1
    TRANSPORT = 2
    UDP_TUNNEL = 3
    UDP_TRANSPORT = 4
    UDP_TUNNEL_DRAFT = 61443
    UDP_TRANSPORT_DRAFT = 61444


class AuthAlgorithm(IntEnum):
    """Authentication algorithms of ESP and AH (RFC 2407 section 4.5, RFC 4868)."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7


class OakleyAttribute(IntEnum):
    """Attributes of phase 1 (RFC 2409 appendix A)."""

    ENCRYPTION_ALGORITHM = 1
    HASH_ALGORITHM = 2
    AUTHENTICATION_METHOD = 3
    GROUP_DESCRIPTION = 4
    GROUP_TYPE = 5
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    PRF = 13
    KEY_LENGTH = 14


class OakleyEncryption(IntEnum):
    """Encryption algorithms of phase 1 (RFC 2409 appendix A, RFC 3602)."""

    TRIPLE_DES_CBC = 5
    AES_CBC = 7


class OakleyHash(IntEnum):
    """Hash algorithms of phase 1 (RFC 2409 appendix A, IANA's registry)."""

    MD5 = 1
    SHA1 = 2
    SHA2_256 = 4
    SHA2_384 = 5
    SHA2_512 = 6


class OakleyAuthMethod(IntEnum):
    """Authentication methods of phase 1: RFC 2409, RFC 4754, XAUTH and hybrid drafts."""

    PRE_SHARED_KEY = 1
    DSS_SIGNATURES = 2
    RSA_SIGNATURES = 3
    ECDSA_SHA256_P256 = 9
    ECDSA_SHA384_P384 = 10
    ECDSA_SHA512_P521 = 11
    HYBRID_INIT_RSA = 64221
    HYBRID_RESP_RSA = 64222
    HYBRID_INIT_DSS = 64223
    HYBRID_RESP_DSS = 64224
    XAUTH_INIT_PRE_SHARED = 65001
    XAUTH_RESP_PRE_SHARED = 65002
    XAUTH_INIT_RSA = 65005
    XAUTH_RESP_RSA = 65006


class IdType(IntEnum):
    """Identification types (RFC 2407 section 4.6.2.1)."""

    IPV4_ADDR = 1
    FQDN = 2
    USER_FQDN = 3
    IPV4_ADDR_SUBNET = 4
    IPV6_ADDR = 5
    IPV6_ADDR_SUBNET = 6
    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


class CertEncoding(IntEnum):
    """Certificate encodings (RFC 2408 section 3.9)."""

    PKCS7 = 1
    X509_SIGNATURE = 4
    CRL = 7


class NotifyType(IntEnum):
    """Notify message types (RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706)."""

    INVALID_PAYLOAD_TYPE = 1
    DOI_NOT_SUPPORTED = 2
    SITUATION_NOT_SUPPORTED = 3
    INVALID_COOKIE = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_MINOR_VERSION = 6
    INVALID_EXCHANGE_TYPE = 7
    INVALID_FLAGS = 8
    INVALID_MESSAGE_ID = 9
    INVALID_PROTOCOL_ID = 10
    INVALID_SPI = 11
    INVALID_TRANSFORM_ID = 12
    ATTRIBUTES_NOT_SUPPORTED = 13
    NO_PROPOSAL_CHOSEN = 14
    BAD_PROPOSAL_SYNTAX = 15
    PAYLOAD_MALFORMED = 16
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_CERT_ENCODING = 19
    INVALID_CERTIFICATE = 20
    CERT_TYPE_UNSUPPORTED = 21
    INVALID_CERT_AUTHORITY = 22
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25
    ADDRESS_NOTIFICATION = 26
    NOTIFY_SA_LIFETIME = 27
    CERTIFICATE_UNAVAILABLE = 28
    UNSUPPORTED_EXCHANGE_TYPE = 29
    UNEQUAL_PAYLOAD_LENGTHS = 30
    CONNECTED = 16384
    RESPONDER_LIFETIME = 24576
    REPLAY_STATUS = 24577
    INITIAL_CONTACT = 24578
    R_U_THERE = 36136
    R_U_THERE_ACK = 36137


FIRST_STATUS_NOTIFY = 16384
"""Notify types from here on are status, below they are errors (RFC 2408 section 3.14.1)."""


class CfgType(IntEnum):
    """Mode configuration messages (draft-ietf-ipsec-isakmp-mode-cfg-05 section 3.2)."""

    REQUEST = 1
    REPLY = 2
    SET = 3
    ACK = 4


class CfgAttribute(IntEnum):
    """Attributes of mode configuration, XAUTH (draft-beaulieu-ike-xauth-02) and Cisco's Unity."""

    INTERNAL_IP4_ADDRESS = 1
    INTERNAL_IP4_NETMASK = 2
    INTERNAL_IP4_DNS = 3
    INTERNAL_IP4_NBNS = 4
    INTERNAL_ADDRESS_EXPIRY = 5
    INTERNAL_IP4_DHCP = 6
    APPLICATION_VERSION = 7
    INTERNAL_IP6_ADDRESS = 8
    INTERNAL_IP6_NETMASK = 9
    INTERNAL_IP6_DNS = 10
    INTERNAL_IP6_NBNS = 11
    INTERNAL_IP6_DHCP = 12
    INTERNAL_IP4_SUBNET = 13
    SUPPORTED_ATTRIBUTES = 14
    INTERNAL_IP6_SUBNET = 15
    XAUTH_TYPE = 16520
    XAUTH_USER_NAME = 16521
    XAUTH_USER_PASSWORD = 16522
    XAUTH_PASSCODE = 16523
    XAUTH_MESSAGE = 16524
    XAUTH_CHALLENGE = 16525
    XAUTH_DOMAIN = 16526
    XAUTH_STATUS = 16527
    XAUTH_NEXT_PIN = 16528
    XAUTH_ANSWER = 16529
    UNITY_BANNER = 28672
    UNITY_SAVE_PASSWD = 28673
    UNITY_DEF_DOMAIN = 28674
    UNITY_SPLITDNS_NAME = 28675
    UNITY_SPLIT_INCLUDE = 28676
    UNITY_PFS = 28679
    UNITY_LOCAL_LAN = 28678


class XauthType(IntEnum):
    """Values of XAUTH_TYPE."""

    GENERIC = 0


class XauthStatus(IntEnum):
    """Values of XAUTH_STATUS."""

    FAIL = 0
    OK = 1
