"""Choice of a method, and username/password (RFC 1928 section 3, RFC 1929)."""

from dataclasses import dataclass, field

from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.numbers import PASSWORD_VERSION, SOCKS_VERSION, Method

MAX_OFFER_OCTETS = 2 + 255
MAX_PASSWORD_OCTETS = 3 + 255 + 255


def _version(got: int, expected: int, what: str) -> None:
    if got != expected:
        raise WireError(f"{what} of version {got}; {expected} is spoken here")


@dataclass(frozen=True, slots=True)
class MethodOffer:
    """The client's first message: which methods it can do (RFC 1928 section 3)."""

    methods: bytes
    """1 to 255 octets, one per method."""

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """Length of the message at the start of ``octets``, as far as can be told.

        Raises WireError as soon as it cannot be one.
        """
        if octets:
            _version(octets[0], SOCKS_VERSION, "SOCKS")
        if len(octets) < 2:
            return 2
        if octets[1] == 0:
            raise WireError("no method offered")
        return 2 + octets[1]

    @classmethod
    def parse(cls, octets: bytes) -> "MethodOffer":
        """Raises WireError."""
        reader = Reader(octets)
        _version(reader.u8(), SOCKS_VERSION, "SOCKS")
        methods = reader.take(reader.u8())
        reader.finish()
        if not methods:
            raise WireError("no method offered")
        return cls(methods)

    def to_octets(self) -> bytes:
        """Raises WireError for no or too many methods."""
        if not 1 <= len(self.methods) <= 255:
            raise WireError(f"{len(self.methods)} methods; 1 to 255 fit")
        return bytes((SOCKS_VERSION, len(self.methods))) + self.methods


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The server's answer; ``Method.UNACCEPTABLE``: none of them."""

    method: int

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """See :meth:`MethodOffer.octets_needed`."""
        if octets:
            _version(octets[0], SOCKS_VERSION, "SOCKS")
        return 2

    @classmethod
    def parse(cls, octets: bytes) -> "MethodChoice":
        """Raises WireError."""
        reader = Reader(octets)
        _version(reader.u8(), SOCKS_VERSION, "SOCKS")
        method = reader.u8()
        reader.finish()
        return cls(method)

    def to_octets(self) -> bytes:
        """The two octets."""
        return bytes((SOCKS_VERSION, self.method))


@dataclass(frozen=True, slots=True)
class PasswordRequest:
    """UNAME and PASSWD (RFC 1929 section 2), each 1 to 255 octets; the name is UTF-8."""

    user: str
    password: bytes = field(repr=False)

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """See :meth:`MethodOffer.octets_needed`."""
        if octets:
            _version(octets[0], PASSWORD_VERSION, "username/password")
        if len(octets) < 2:
            return 2
        user = octets[1]
        if user == 0:
            raise WireError("empty user name")
        if len(octets) < 3 + user:
            return 3 + user
        if octets[2 + user] == 0:
            raise WireError("empty password")
        return 3 + user + octets[2 + user]

    @classmethod
    def parse(cls, octets: bytes) -> "PasswordRequest":
        """Raises WireError."""
        reader = Reader(octets)
        _version(reader.u8(), PASSWORD_VERSION, "username/password")
        name = reader.take(reader.u8())
        password = reader.take(reader.u8())
        reader.finish()
        if not name or not password:
            raise WireError("empty user name or password")
        try:
            user = name.decode()
        except UnicodeDecodeError:
            raise WireError("user name that is no UTF-8") from None
        if not user.isprintable():
            raise WireError("user name with control characters")
        return cls(user, password)

    def to_octets(self) -> bytes:
        """Raises WireError when a field is empty or longer than 255 octets."""
        name = self.user.encode()
        if not (1 <= len(name) <= 255 and 1 <= len(self.password) <= 255):
            raise WireError("user name and password have to be of 1 to 255 octets")
        head = bytes((PASSWORD_VERSION, len(name))) + name
        return head + bytes((len(self.password),)) + self.password


@dataclass(frozen=True, slots=True)
class PasswordStatus:
    """0: welcome. Anything else: the server closes the connection."""

    status: int

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """See :meth:`MethodOffer.octets_needed`."""
        if octets:
            _version(octets[0], PASSWORD_VERSION, "username/password")
        return 2

    @classmethod
    def parse(cls, octets: bytes) -> "PasswordStatus":
        """Raises WireError."""
        reader = Reader(octets)
        _version(reader.u8(), PASSWORD_VERSION, "username/password")
        status = reader.u8()
        reader.finish()
        return cls(status)

    def to_octets(self) -> bytes:
        """The two octets."""
        return bytes((PASSWORD_VERSION, self.status))


def choose(offer: MethodOffer, acceptable: tuple[Method, ...]) -> MethodChoice:
    """The first of ``acceptable`` that is offered, or UNACCEPTABLE."""
    chosen = next((method for method in acceptable if method in offer.methods), None)
    return MethodChoice(Method.UNACCEPTABLE if chosen is None else chosen)
