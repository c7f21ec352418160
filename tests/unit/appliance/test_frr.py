"""FRR: what is read of its configuration, and what is entered."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.appliance.remote_access import frr

CONFIG = """\
Building configuration...

Current configuration:
!
frr version 8.4.4
hostname gw
!
router ospf
 network 10.1.0.0/24 area 0
exit
!
router bgp 65001
 neighbor 10.1.0.2 remote-as 65002
 !
 address-family ipv4 unicast
  network 192.0.2.0/24
 exit-address-family
 !
 address-family ipv6 unicast
  neighbor 10.1.0.2 activate
 exit-address-family
exit
!
router ospf vrf red
 redistribute kernel
exit
!
end
"""
V4, V6 = ip_network("10.9.0.0/24"), ip_network("fd00:9::/64")


def with_lines(text: str, after: str, *lines: str) -> str:
    return text.replace(after, "\n".join((after, *lines)), 1)


DONE = with_lines(
    with_lines(
        CONFIG.replace(
            "!\nend",
            "!\nip prefix-list gateway-pools seq 5 permit 10.9.0.0/24\n!\n"
            "route-map gateway-pools permit 10\n match ip address prefix-list gateway-pools\n"
            "exit\n!\nend",
        ),
        "router ospf",
        " redistribute kernel route-map gateway-pools",
    ),
    "  network 192.0.2.0/24",
    "  redistribute kernel route-map gateway-pools",
)


def test_every_router_is_told_of_the_pools_of_its_ip_version() -> None:
    assert frr.commands(frr.parse(CONFIG), [V4, V6]) == [
        ("ip prefix-list gateway-pools permit 10.9.0.0/24",),
        ("ipv6 prefix-list gateway-pools permit fd00:9::/64",),
        ("route-map gateway-pools permit 10", "match ip address prefix-list gateway-pools"),
        ("route-map gateway-pools6 permit 10", "match ipv6 address prefix-list gateway-pools"),
        ("router ospf", "redistribute kernel route-map gateway-pools"),
        (
            "router bgp 65001",
            "address-family ipv4 unicast",
            "redistribute kernel route-map gateway-pools",
        ),
        (
            "router bgp 65001",
            "address-family ipv6 unicast",
            "redistribute kernel route-map gateway-pools6",
        ),
    ]


def test_what_is_there_is_not_entered_again() -> None:
    running = frr.parse(DONE)
    assert frr.commands(running, [V4]) == []
    assert frr.announces(running, 4) == ("router ospf", "router bgp 65001")
    assert frr.announces(running, 6) == ()
    assert frr.announces(frr.parse(CONFIG), 4) == ()


def test_another_network_takes_the_place_of_the_former() -> None:
    assert frr.commands(frr.parse(DONE), [ip_network("10.8.0.0/16")]) == [
        ("ip prefix-list gateway-pools permit 10.8.0.0/16",),
        ("no ip prefix-list gateway-pools seq 5 permit 10.9.0.0/24",),
    ]


def test_everything_of_ours_goes() -> None:
    assert frr.commands(frr.parse(DONE), []) == [
        ("router ospf", "no redistribute kernel"),
        ("router bgp 65001", "address-family ipv4 unicast", "no redistribute kernel"),
        ("no route-map gateway-pools",),
        ("no ip prefix-list gateway-pools seq 5 permit 10.9.0.0/24",),
    ]
    assert frr.commands(frr.parse(CONFIG), []) == []


def test_what_an_administrator_redistributes_stays_as_it_is() -> None:
    text = with_lines(CONFIG, "router ospf", " redistribute kernel metric 20")
    running = frr.parse(text)
    assert ("router ospf", "redistribute kernel route-map gateway-pools") not in frr.commands(
        running, [V4]
    )
    assert frr.announces(running, 4) == ("router ospf",)
    assert frr.commands(running, []) == []


@given(st.text(st.sampled_from(list(" \n!abgpostrue-mip6.0/")) | st.characters(), max_size=400))
def test_any_answer_is_read(text: str) -> None:
    running = frr.parse(text)
    frr.commands(running, [V4, V6])
    frr.announces(running, 4)


FAKE = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
*"show running-config"*) cat {config} ;;
*) {then} ;;
esac
"""


def fake(folder: Path, then: str = ":", text: str = CONFIG) -> tuple[str, Path]:
    log, file, program = folder / "log", folder / "config", folder / "vtysh"
    file.write_text(text)
    program.write_text(FAKE.format(log=log, config=file, then=then))
    program.chmod(0o755)
    return str(program), log


def test_blocks_are_said_one_by_one(tmp_path: Path) -> None:
    program, log = fake(tmp_path)
    running = frr.hand_over([V4], program)
    assert frr.announces(running, 4) == ()
    said = log.read_text().splitlines()
    assert said[0] == said[-1] == "-c show running-config"
    assert said[3] == (
        "-c configure terminal -c router ospf -c redistribute kernel route-map gateway-pools"
    )


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("echo '% Unknown command: x'", "% Unknown command"),
        ("echo 'failed to connect to any daemons.' >&2; exit 1", "frrvty"),
        ("exit 3", "no answer"),
    ],
)
def test_what_frr_refuses_is_told(tmp_path: Path, then: str, words: str) -> None:
    program, _ = fake(tmp_path, then)
    with pytest.raises(frr.FrrError, match=words):
        frr.hand_over([V4], program)


def test_settings_of_vtysh_that_cannot_be_read_do_not_matter(tmp_path: Path) -> None:
    then = "echo \"% Can't open configuration file /etc/frr/vtysh.conf due to 'x'.\""
    program, log = fake(tmp_path, then)
    frr.hand_over([V4], program)
    assert len(log.read_text().splitlines()) == 6


def test_no_frr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(frr.FrrError, match="apt install frr"):
        frr.hand_over([V4])
    with pytest.raises(frr.FrrError, match="does not answer"):
        frr.hand_over([V4], str(tmp_path / "none"))
