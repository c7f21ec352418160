"""Why an IKE socket could not be set up, and what to do about it."""

import errno

from gateway.domain.endpoint import Endpoint


class TransportError(Exception):
    """A socket could not be set up. Its text says which, why and what to do about it."""


class PortInUseError(TransportError):
    """Something else has the port."""


class TransportDeniedError(TransportError):
    """The process may not do this."""


class KernelLacksError(TransportError):
    """The kernel was built without something that the sockets need."""


def setup_error(error: OSError, where: Endpoint) -> TransportError:
    """What to do when the kernel refuses an IPsec option of a socket."""
    if error.errno in {errno.EPERM, errno.EACCES}:
        return TransportDeniedError(
            f"the IKE socket {where} needs CAP_NET_ADMIN: start the gateway as root or by systemd"
        )
    return KernelLacksError(
        f"the kernel refused an IPsec option of the IKE socket {where} ({error.strerror}): it needs"
        " CONFIG_XFRM_USER and CONFIG_INET_ESP; `gateway check` says what is missing"
    )


def bind_error(error: OSError, where: Endpoint) -> TransportError:
    """What to do when an address or port cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"UDP port {where.port} of {where.address} is in use: stop the other IKE daemon"
            f" (`ss -ulpn sport = :{where.port}` names it) or choose another address in [gateway]"
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return TransportDeniedError(
            f"UDP port {where.port} of {where.address} needs CAP_NET_BIND_SERVICE:"
            " start the gateway as root or by systemd"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(
            f"no interface has the address {where.address}: configure it, or correct [gateway]"
        )
    return TransportError(f"cannot listen on {where}: {error.strerror}")
