"""Records for public DNS, and whether it has them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from names_bed import ADDRESS, free_port, named

from gateway.appliance.remote_access.names_views import verification
from gateway.config import to_names
from gateway.config.document import Config
from gateway.domain.endpoint import Endpoint
from gateway.lab import bind
from gateway.names.publication import Publication, publication
from gateway.names.verify import verify

PUBLIC = [ip_address("203.0.113.7").__class__("8.8.4.4"), ip_address("2606:4700::1")]


def wanted(addresses: object = PUBLIC) -> Publication:
    """Of a gateway."""
    tcp = [Endpoint(ip_address("8.8.4.4"), 443)]
    return publication("example.com", "gw.example.com", addresses, 500, 4500, tcp)  # type: ignore[arg-type]


def test_the_records_are_those_of_rfc_2230_and_rfc_2782() -> None:
    assert [str(one) for one in wanted().records] == [
        "example.com. 3600 IN KX 10 gw.example.com.",
        "_isakmp._udp.example.com. 3600 IN SRV 10 0 500 gw.example.com.",
        "_ipsec-nat-t._udp.example.com. 3600 IN SRV 10 0 4500 gw.example.com.",
        "_ipsec-nat-t._tcp.example.com. 3600 IN SRV 10 0 443 gw.example.com.",
        "gw.example.com. 3600 IN A 8.8.4.4",
        "gw.example.com. 3600 IN AAAA 2606:4700::1",
    ]
    assert not wanted().advice


@pytest.mark.parametrize(
    ("address", "words"),
    [("0.0.0.0", "names no address"), ("192.168.1.5", "not reachable from the Internet")],
)
def test_addresses_that_lead_nowhere_are_pointed_out(address: str, words: str) -> None:
    (advice,) = wanted([ip_address(address)]).advice
    assert words in advice


@pytest.mark.parametrize(
    ("name", "address", "host"),
    [
        ("gw.example.com", None, "gw.example.com"),
        ("gateway", None, "vpn.example.org"),
        ("gateway", "vpn.example.net", "vpn.example.net"),
        ("gw.example.com", "203.0.113.9", "gw.example.com"),
    ],
)
def test_the_host_is_what_devices_connect_to(name: str, address: str | None, host: str) -> None:
    given: dict[str, object] = {"gateway": {"name": name}, "names": {"published": "example.org"}}
    if address is not None:
        given["provisioning"] = {"address": address}
    found = to_names.published(Config.model_validate(given))
    assert found is not None
    assert found.host == host


@pytest.mark.skipif(not bind.NAMED.exists(), reason="needs bind9")
def test_public_dns_is_compared(tmp_path: Path) -> None:
    zone = bind.Zone(
        "example.com",
        "@ IN KX 10 gw\n_isakmp._udp IN SRV 10 0 501 gw\n_ipsec-nat-t._udp IN SRV 10 0 4500 gw\n"
        "_ipsec-nat-t._udp IN SRV 20 0 4500 other\ngw IN A 8.8.4.4\n",
    )
    there = wanted()
    records = [[one.owner, one.type, one.data] for one in there.records]
    with named(tmp_path, [zone]) as port:
        answer = verify({"records": records, "servers": [ADDRESS], "port": port})
    found = verification(there, answer)
    assert [item["state"] for item in found["items"]] == [
        "ok",
        "different",
        "ok",
        "missing",
        "ok",
        "missing",
    ]
    assert "10 0 501 gw.example.com." in found["items"][1]["found"]
    assert "also has" in found["items"][2]["detail"]
    assert not found["ok"]


def test_no_answer_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.names.verify.LIFETIME_S", 0.2)
    there = wanted()
    records = [[one.owner, one.type, one.data] for one in there.records]
    answer = verify({"records": records, "servers": [ADDRESS], "port": free_port()})
    assert {item["state"] for item in verification(there, answer)["items"]} == {"unknown"}


@pytest.mark.parametrize(
    "answer", [{}, {"checks": 7}, {"checks": [7, {}]}, {"checks": [{"owner": 1, "found": 2}]}]
)
def test_nonsense_of_the_process_is_unknown(answer: dict[str, object]) -> None:
    found = verification(wanted(), answer)
    assert {item["state"] for item in found["items"]} == {"unknown"}
