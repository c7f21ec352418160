"""Connections that we open, with strongSwan as the gateway on the other side."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_bed import PSK
from interop_bed import Bed, Streams, interop, psk_connection, table

from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.pki import Authority
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

PEER = plan.ACCESSES["access1"].device.ip
PEER_ID = "branch.example.com"

RESPONDER = """
connections {{
  psk {{
    version = 2
    proposals = aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-x25519
    local {{
      auth = psk
      id = {peer_id}
    }}
    remote {{
      auth = psk
      id = "*@hub.example.com"
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24,10.78.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16,aes256gcm16-x25519
      }}
    }}
  }}
  certificate {{
    version = 2
    proposals = aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-x25519
    local {{
      auth = pubkey
      certs = branch.crt
      id = {peer_id}
    }}
    remote {{
      auth = pubkey
      id = certified.example.com
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
  pooled {{
    version = 2
    proposals = aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-x25519
    pools = inner
    local {{
      auth = psk
      id = {peer_id}
    }}
    remote {{
      auth = psk
      id = roamer@example.com
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
  whole {{
    version = 2
    proposals = aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-x25519
    pools = inner
    local {{
      auth = psk
      id = {peer_id}
    }}
    remote {{
      auth = psk
      id = whole@example.com
    }}
    children {{
      net {{
        local_ts = 0.0.0.0/0
        esp_proposals = aes256gcm16
      }}
    }}
  }}
  part {{
    version = 2
    proposals = aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-x25519
    pools = inner
    local {{
      auth = psk
      id = {peer_id}
    }}
    remote {{
      auth = psk
      id = part@example.com
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
pools {{
  inner {{
    addrs = 10.88.0.0/24
  }}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""


def to_branch(name: str, **keys: object) -> str:
    fixed: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "local_id": f"{name}@hub.example.com",
        "remote_id": PEER_ID,
        "remote": str(PEER),
        "local_subnets": ["10.1.0.0/24"],
        "remote_subnets": ["10.77.0.0/24"],
    }
    return table(f"connections.{name}", **{**fixed, **keys})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder: Path = tmp_path_factory.mktemp("pki")
    authority = Authority()
    ca = folder / "ca.crt"
    ca.write_bytes(authority.root.certificate_pem())
    ours = authority.gateway("certified.example.com")
    certificate, key = ours.write(folder, "gateway")
    connections = psk_connection()
    connections += to_branch("site")
    connections += to_branch(
        "counted",
        lifetimes={"child_soft_packets": 200, "child_hard_packets": 100_000},
    )
    connections += to_branch(
        "certified",
        local_id="certified.example.com",
        local_auth="certificate",
        remote_auth="certificate",
        certificate=str(certificate),
        private_key=str(key),
        ca_certificates=[str(ca)],
    ).replace(f'psk = "{PSK}"\n', "")
    connections += to_branch(
        "roamer",
        local_id="roamer@example.com",
        local_subnets=[],
        request_inner_address=True,
    )
    for name in ("part", "whole"):
        connections += to_branch(
            name,
            local_id=f"{name}@example.com",
            local_subnets=[],
            remote_subnets=["0.0.0.0/0"],
            request_inner_address=True,
        )
    connections += to_branch("trapped", remote_subnets=["10.78.0.0/24"], start="trap")
    connections += to_branch("wrong", psk=PSK + "!")
    limits = "retransmit_first_s = 0.5\nretransmit_tries = 4"
    with interop(connections, ike=limits) as bed:
        for address in ("10.77.0.1", "10.78.0.1"):
            bed.lab.run("device", ["ip", "address", "add", f"{address}/32", "dev", "lo"])
        bed.device.load(
            RESPONDER.format(peer_id=PEER_ID, psk=PSK),
            authorities=[authority.root],
            credentials={"branch": authority.gateway(PEER_ID)},
        )
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    # Closed by us: what the peer closes, we would open again.
    for ike in shared.ike_sas():
        shared.gateway.call("close-ike-sa", id=ike["id"])
    wait_until(lambda: not shared.ike_sas() and not shared.states(), 10, "nothing is left")
    wait_until(lambda: not shared.device.list_sas(), 10, "nothing is left at the peer")


def command(bed: Bed, *arguments: str) -> str:
    """What `gateway ARGUMENTS` prints."""
    main = f"import sys; sys.path.insert(0, {CHECKOUT!r}); from gateway.cli.app import main; main()"
    socket = str(bed.gateway.folder / "control.sock")
    argv = [sys.executable, "-c", main, *arguments, "--socket", socket]
    return bed.lab.run("gw", argv).stdout


def opened(bed: Bed, name: str) -> None:
    """Open a connection and wait until both sides have it."""
    known = len(bed.gateway.events("ike_sa_established"))
    bed.gateway.call("initiate", connection=name)
    wait_until(
        lambda: len(bed.gateway.events("ike_sa_established")) > known, 20, "the gateway's line"
    )
    (ours,), (theirs,) = bed.ike_sas(), bed.device.established()
    assert ours["id"] == f"{theirs.initiator_spi}_{theirs.responder_spi}"
    assert ours["connection"] == name


def test_open_and_close_by_command(bed: Bed) -> None:
    assert "opening site" in command(bed, "ike", "open", "site")
    wait_until(bed.child_sas, 20, "the child SA")
    assert bed.ping(host="server", to="10.77.0.1")
    (listed,) = json.loads(command(bed, "ike", "list", "--json"))
    (theirs,) = bed.device.established()
    assert listed["id"] == f"{theirs.initiator_spi}_{theirs.responder_spi}"
    assert "closed" in command(bed, "ike", "close", listed["id"])
    wait_until(lambda: not bed.ike_sas() and not bed.device.established(), 10, "it is gone")
    assert not bed.states()


def test_certificates(bed: Bed) -> None:
    opened(bed, "certified")
    assert bed.ping(host="server", to="10.77.0.1")
    assert "authentication of 'certified.example.com' with ECDSA" in bed.device.log()


def test_an_inner_address_for_us(bed: Bed) -> None:
    opened(bed, "roamer")
    (ike,), (child,) = bed.ike_sas(), bed.child_sas()
    (address,) = ike["inner_addresses"]
    assert address.startswith("10.88.0.")
    assert child["local_ts"] == [f"{address}/32"]
    (theirs,) = bed.device.established()
    assert theirs.children[0].remote_selectors == (f"{address}/32",)


@pytest.mark.parametrize(("name", "given"), [("part", "10.77.0.0/24"), ("whole", "0.0.0.0/0")])
def test_an_inner_address_and_whatever_the_peer_gives(bed: Bed, name: str, given: str) -> None:
    """As a mobile node asks: everything, which the gateway narrows or not."""
    opened(bed, name)
    (ike,), (child,) = bed.ike_sas(), bed.child_sas()
    (address,) = ike["inner_addresses"]
    assert child["local_ts"] == [f"{address}/32"]
    assert child["remote_ts"] == [given]
    # Private notifies are for those who sent our vendor ids.
    assert "N(41" not in bed.device.log()
    assert "(41204)" not in bed.device.log()


def test_traffic_opens_a_trapped_connection(bed: Bed) -> None:
    assert not bed.ike_sas()
    bed.ping(1, host="server", to="10.78.0.1")  # this packet itself may be lost
    wait_until(bed.child_sas, 20, "the child SA")
    assert bed.ping(host="server", to="10.78.0.1")
    (ike,) = bed.ike_sas()
    assert ike["connection"] == "trapped"


def test_the_peer_rekeys_under_a_stream(bed: Bed) -> None:
    opened(bed, "site")
    with Streams(bed, "10.77.0.1", name="theirs") as streams:
        for _ in range(2):
            (child,) = {one["spi_in"] for one in bed.child_sas()}
            bed.device.rekey(child="net")
            wait_until(
                lambda old=child: [one["spi_in"] for one in bed.child_sas()] not in ([old], []),
                20,
                "another child SA",
            )
            wait_until(lambda: len(bed.child_sas()) == 1, 20, "one child SA")
            (ike,) = {one["id"] for one in bed.ike_sas()}
            bed.device.rekey(ike="psk")
            wait_until(
                lambda old=ike: [one["id"] for one in bed.ike_sas()] not in ([old], []),
                20,
                "another IKE SA",
            )
            wait_until(lambda: len(bed.ike_sas()) == 1, 20, "one IKE SA")
            streams.wait_for_more(50)
        assert streams.lost() == (0, 0)


def test_we_rekey_under_a_stream(bed: Bed) -> None:
    opened(bed, "counted")
    seen = {str(one["spi_in"]) for one in bed.child_sas()}
    with Streams(bed, "10.77.0.1", name="ours") as streams:
        for _ in range(8):
            before = set(seen)
            wait_until(
                lambda before=before: {str(one["spi_in"]) for one in bed.child_sas()} - before,
                20,
                "another child SA",
            )
            seen |= {str(one["spi_in"]) for one in bed.child_sas()}
        assert streams.lost() == (0, 0)


def test_the_peer_does_not_know_our_key(bed: Bed) -> None:
    bed.gateway.call("initiate", connection="wrong")
    wait_until(lambda: bed.gateway.events("handshake_failed"), 20, "the gateway's line")
    line = bed.gateway.events("handshake_failed")[0]
    assert "AUTHENTICATION_FAILED" in line["text"]
    assert line["text"].startswith(f"wrong from {PEER}:")
    text = bed.gateway.config.read_text().removeprefix(bed.head)
    bed.reload(text.replace("[connections.wrong]", "[connections.never]"))  # no further attempts


def test_a_connection_that_is_to_be_up_comes_back(bed: Bed) -> None:
    """start = "start": opened by the reload, and again after the peer was gone."""
    text = bed.gateway.config.read_text().removeprefix(bed.head)
    bed.reload(text + to_branch("kept", start="start", liveness_s=2))
    wait_until(bed.child_sas, 20, "the connection")
    assert bed.ping(host="server", to="10.77.0.1")
    known = len(bed.gateway.events("ike_sa_established"))
    bed.device.terminate("psk")
    wait_until(
        lambda: len(bed.gateway.events("ike_sa_established")) > known, 30, "the connection again"
    )
    wait_until(bed.child_sas, 10, "its child SA")
    assert bed.ping(host="server", to="10.77.0.1")
    bed.reload(text)
    wait_until(lambda: not bed.ike_sas(), 10, "it ends with its table")


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert bed.findings() == []
