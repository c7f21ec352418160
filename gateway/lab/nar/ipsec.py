"""strongSwan on hosts behind one shared address, and one outside that knows nothing of NAR.

Draft 004, section 2.6.2: a source port other than 500 for IKE, SPIs out of what was leased, client
identifiers of one's own. Nothing is encapsulated in UDP: to IKE there is no NAT on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from gateway.lab.nar import plan
from gateway.lab.nar.instrument import ESP, UDP_ASSOCIATE, RawClient
from gateway.lab.processes import LabError
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

PSK = "one long shared secret of the address sharing lab"
BEHIND_Y = IPv4Network("10.99.0.0/24")
"""By ESP in tunnel mode; y has the first address."""
BEHIND_Y_BY_AH = IPv4Network("10.97.0.0/24")
ESP_PORT, AH_PORT = 7001, 7002
"""UDP ports of y, in transport mode."""
IKE_SUITES = {2: "aes256gcm16-prfsha256-x25519", 1: "aes256-sha256-x25519"}
SPIS = 8
"""Of one client: two SAs in place, and as many again while they are rekeyed."""

CHILDREN = """
      net {{
        mode = tunnel
        local_ts = {net_local}
        remote_ts = {net_remote}
        esp_proposals = aes256gcm16
      }}
      ahnet {{
        mode = tunnel
        local_ts = {ahnet_local}
        remote_ts = {ahnet_remote}
        ah_proposals = sha256
      }}
      host {{
        mode = transport
        local_ts = {host_local}
        remote_ts = {host_remote}
        esp_proposals = aes256gcm16
      }}
      ahhost {{
        mode = transport
        local_ts = {ahhost_local}
        remote_ts = {ahhost_remote}
        ah_proposals = sha256
      }}
"""

CONNECTION = """
  {name} {{
    version = {version}
    local_addrs = {local}
    remote_addrs = {remote}
    mobike = no
    proposals = {suite}
    local {{
      auth = psk
      id = {local_id}
    }}
    remote {{
      auth = psk
      id = "{remote_id}"
    }}
    children {{
{children}
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class IkeLease:
    """What one client leased: a UDP port for IKE, and SPIs in a row."""

    port: int
    spis: range

    @property
    def charon(self) -> str:
        """Lines of strongswan.conf that keep charon to it."""
        first, last = self.spis[0], self.spis[-1]
        # Port 4500 stays closed: nothing may get by with UDP encapsulation.
        return (
            f"port = {self.port}\n    port_nat_t = 0\n"
            f"    spi_min = 0x{first:08x}\n    spi_max = 0x{last:08x}"
        )


def lease(control: RawClient, first_spi: int, *, protocol: int = ESP) -> IkeLease:
    """Lease what IKE needs, the SPIs from `first_spi` on; raises LabError where it is not given."""
    answer = control.ask(UDP_ASSOCIATE, plan.Y, 500, flags=0x01)
    if answer.reply:
        raise LabError(f"no UDP port for IKE: {answer.reply}")
    wished = range(first_spi, first_spi + SPIS)
    for spi in wished:
        code, _, got = control.ipsec(protocol, spi)
        if code or got != spi:
            raise LabError(f"asked for SPI {spi:08x}, got {got:08x} with {code}")
    return IkeLease(answer.port, wished)


def identity(host: str) -> str:
    """Who a client says it is: nothing that its address would tell."""
    return f"{host}@example.com"


def client_configuration(
    host: str, local: object, *, version: int = 2, remote: object = plan.Y,
    remote_id: str = "y.example.com",
) -> str:  # fmt: skip
    """swanctl.conf of a client; `local` is what it has as its address, Nb or Xa."""
    own = f"{plan.ADDRESSES[host]}/32"
    port = client_port(host)
    children = CHILDREN.format(
        net_local=own,
        net_remote=BEHIND_Y,
        ahnet_local=own,
        ahnet_remote=BEHIND_Y_BY_AH,
        host_local=f"dynamic[udp/{port}]",
        host_remote=f"dynamic[udp/{ESP_PORT}]",
        ahhost_local=f"dynamic[udp/{port}]",
        ahhost_remote=f"dynamic[udp/{AH_PORT}]",
    )
    return _configuration(
        CONNECTION.format(
            name="y",
            version=version,
            local=local,
            remote=remote,
            suite=IKE_SUITES[version],
            local_id=identity(host),
            remote_id=remote_id,
            children=children,
        )
    )


def client_port(host: str) -> int:
    """The client's own port in transport mode: at y, one address and port is one client's."""
    return 6000 + int(plan.ADDRESSES[host]) % 256


def server_configuration() -> str:
    """swanctl.conf of y: whoever has the key, one connection for each version and client."""
    connections = ""
    for version, host in ((v, h) for v in IKE_SUITES for h in ("x1", "x2")):
        own, port = f"{plan.ADDRESSES[host]}/32", client_port(host)
        children = CHILDREN.format(
            net_local=BEHIND_Y,
            net_remote=own,
            ahnet_local=BEHIND_Y_BY_AH,
            ahnet_remote=own,
            host_local=f"dynamic[udp/{ESP_PORT}]",
            host_remote=f"dynamic[udp/{port}]",
            ahhost_local=f"dynamic[udp/{AH_PORT}]",
            ahhost_remote=f"dynamic[udp/{port}]",
        )
        connections += CONNECTION.format(
            name=f"{host}-v{version}",
            version=version,
            local=plan.Y,
            remote="%any",
            suite=IKE_SUITES[version],
            local_id="y.example.com",
            remote_id=identity(host),
            children=children,
        )
    return _configuration(connections)


def _configuration(connections: str) -> str:
    secret = f'secrets {{\n  ike-1 {{\n    secret = "{PSK}"\n  }}\n}}\n'
    return f"connections {{\n{connections}\n}}\n{secret}"


def start_client(
    lab: Lab, host: str, leased: IkeLease, local: IPv4Address, *, version: int = 2, **keys: object
) -> StrongSwan:
    """Charon on a client's host, kept to what was leased, its configuration loaded."""
    swan = StrongSwan(
        lab, host, name=f"charon-{host}-{leased.port}", extra=leased.charon, install_routes=False
    )
    swan.start()
    swan.load(client_configuration(host, local, version=version, **keys))  # type: ignore[arg-type]
    return swan


def start_server(lab: Lab) -> StrongSwan:
    """Charon on y with networks behind it."""
    for network in (BEHIND_Y, BEHIND_Y_BY_AH):
        lab.run("y", ["ip", "address", "replace", f"{network[1]}/32", "dev", "lo"])
    swan = StrongSwan(lab, "y", install_routes=False)
    swan.start()
    swan.load(server_configuration())
    return swan


DEVICE = """
connections {{
  y {{
    version = {version}
    local_addrs = {local}
    remote_addrs = {remote}
    vips = 0.0.0.0
    mobike = no
    proposals = aes256gcm16-prfsha256-x25519
    local {{
      auth = psk
      id = {local_id}
    }}
    remote {{
      auth = psk
      id = y.example.com
    }}
    children {{
      net {{
        remote_ts = {behind}
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""


def device_configuration(host: str, local: object) -> str:
    """swanctl.conf of a client of our own gateway at y, which gives it an inner address."""
    return DEVICE.format(
        version=2,
        local=local,
        remote=plan.Y,
        local_id=identity(host),
        behind=BEHIND_Y,
        psk=PSK,
    )
