"""How large packets of a device may be, with the arithmetic and how everybody learns of it."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.appliance.observation.device import Device
from gateway.appliance.observation.layers import costs
from gateway.control.remote_access_views import DeviceMtu, MtuStep
from gateway.dataplane.kernel.ways import Question, Way
from gateway.domain.child_sa import Encryption, EspSuite, Integrity
from gateway.domain.endpoint import IpAddress
from gateway.domain.overhead import LEAST_MTU, LINK_MTU, esp_layer, segment_octets, shape_of
from gateway.domain.overhead import inner_mtu as worked_out

_USUAL = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True)


def outer_ends(device: Device) -> Question | None:
    """Our address and the device's, of its outermost packets; None when it is not connected."""
    session, x_mip = device.session, device.x_mip
    ends: tuple[str, str] | None = None
    if x_mip is not None and x_mip.care_of:
        ends = x_mip.agent, x_mip.care_of[-1]
    elif session is not None:
        ends = session.local.rpartition(":")[0], session.outer_host
    if ends is None:
        return None
    remote = _address(ends[1])
    if remote is None:
        return None
    local = _address(ends[0])
    if local is None or local.version != remote.version:
        local = IPv4Address(0) if remote.version == 4 else IPv6Address(0)
    return local, remote


def mtu_of(device: Device, way: Way | None, configured: int) -> DeviceMtu:
    """The answer of ``mtu``. ``configured`` is ``[dataplane] mtu``."""
    layers = costs(device)
    connected = bool(layers)
    if not layers:
        layers = [esp_layer(shape_of(_USUAL), udp=True)]
    path = LINK_MTU if way is None else way.mtu
    found = worked_out(layers, path)
    inner = found.inner
    tunnel = device.session is not None or not connected
    effective = min(inner, configured) if tunnel else inner
    steps: list[MtuStep] = [
        {"what": one.what, "octets": one.octets, "left": one.left} for one in found.steps
    ]
    return {
        "device": device.name,
        "connected": connected,
        "path": path,
        "path_source": _source(way),
        "steps": steps,
        "arithmetic": found.arithmetic,
        "inner": inner,
        "configured": configured if tunnel else None,
        "effective": effective,
        "mss_ipv4": segment_octets(max(effective, LEAST_MTU[4]), 4),
        "mss_ipv6": segment_octets(max(effective, LEAST_MTU[6]), 6),
        "published": _published(effective, configured) if tunnel else [],
        "warnings": _warnings(device, way, inner, configured, connected=connected),
    }


def _source(way: Way | None) -> str:
    if way is None:
        return "assumed"
    return "measured" if 0 < way.learned < way.link else "interface"


def _published(effective: int, configured: int) -> list[str]:
    four, six = (segment_octets(max(effective, LEAST_MTU[one]), one) for one in (4, 6))
    return [
        f"TCP segments are clamped to {four} octets (IPv4) and {six} (IPv6)",
        f"senders of larger packets are told by ICMP: at most {min(effective, configured)} octets",
        "mobile nodes of ours are told when they connect, in the configuration payload",
    ]


def _warnings(
    device: Device, way: Way | None, inner: int, configured: int, *, connected: bool
) -> list[str]:
    found = []
    if not connected:
        text = "the device is not connected: worked out for AES-GCM in UDP over IPv4"
        return [f"{text} and a path of {LINK_MTU} octets"]
    if way is None:
        found.append(f"there is no route to the device: a path of {LINK_MTU} octets is assumed")
    elif 0 < way.learned < way.link:
        text = f"the path outside carries {way.learned} octets, {way.interface} {way.link}:"
        found.append(f"{text} a router on the way has said so")
    if device.session is not None and inner < configured:
        text = f"the tunnel carries {inner} octets, [dataplane] mtu is {configured}: TCP is clamped"
        found.append(
            f"{text}, others learn it by ICMP; if large packets are lost, set mtu = {inner}"
        )
    six = any(":" in one for session in device.sessions.values() for one in session.inner)
    if six and inner < LEAST_MTU[6]:
        text = f"IPv6 needs {LEAST_MTU[6]} octets and the tunnel carries {inner}"
        found.append(f"{text}: its larger packets are fragmented outside of the tunnel")
    return found


def _address(text: str) -> IpAddress | None:
    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        return None
