"""What an administrator sees of a running NAR server: commands, REST, and gateway check."""

# planes: portable

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from nar_bed import NarBed, leased, nar_bed

from gateway.lab.nar import roles
from gateway.lab.nar.instrument import ANY, BIND, ESP, LEASES, leasing
from gateway.lab.nar.plan import NB, X1, Y
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

API = "127.0.0.1:8443"


def configuration(folder: object, **keys: Any) -> str:
    text = roles.soho(folder, **keys)
    off = "enabled = false\n"
    assert text.count(off) == 1, text
    return text.replace(off, "")


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(configuration)
        yield bed


def gateway(bed: NarBed, *words: str) -> str:
    """What a command says on the NAR box; raises LabError where its exit status is not 0."""
    argv = ["env", "-u", "COLUMNS", sys.executable, "-m", "gateway", *words]
    if words[0] != "check":
        argv += ["--socket", str(bed.n.folder / "control.sock")]
    return bed.lab.run("n", argv).stdout


def rest(bed: NarBed, path: str, method: str = "GET") -> tuple[int, Any]:
    token = (bed.n.folder / "api-token").read_text().strip()
    argv = ["curl", "-s", "-k", "-m", "10", "-X", method, "-w", "\n%{http_code}"]
    argv += ["-H", f"Authorization: Bearer {token}", f"https://{API}/api/v1/nar{path}"]
    body, _, status = bed.lab.run("n", argv).stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None


def test_nothing_is_missing_on_a_box_that_serves(bed: NarBed) -> None:
    said = json.loads(gateway(bed, "check", "--config", str(bed.n.config), "--json"))
    verdicts = {one["name"]: one for one in said["verdicts"]}
    assert said["ok"], [one for one in said["verdicts"] if one["state"] == "missing"]
    for name in (
        "NAR servers",
        "NAR by L2TP",
        f"lent {NB}",
        "tcp 10.50.0.1:1080",
        "ports of own connections",
        "other address translation",
        "forwarding IPv4",
    ):
        assert verdicts[name]["state"] == "ok", verdicts[name]


def test_commands_and_rest_show_the_same(bed: NarBed) -> None:
    client, _ = leasing(bed.lab, "x1", Y, flags=LEASES)
    with client:
        _, _, spi = client.ipsec(ESP)
        port = leased(client.ask(BIND, ANY, 0))
        assert f"esp {NB} SPI 0x{spi:08x}" in gateway(bed, "nar", "mappings")
        assert f"tcp {NB}:{port}" in gateway(bed, "nar", "mappings", "--protocol", "tcp")
        assert f"tcp {NB}:{port}" not in gateway(bed, "nar", "mappings", "--protocol", "esp")
        clients = gateway(bed, "nar", "clients", "--client", str(X1))
        assert "soho [everything]" in clients
        assert f"tcp {NB}:{port}" in gateway(bed, "status", "--all")
        wait_until(lambda: rest(bed, "/clients")[0] == 200, 30, "the API")
        status, page = rest(bed, f"/mappings?client={X1}&protocol=esp&value=0x{spi:08x}")
        assert (status, page["total"]) == (200, 1)
        assert page["items"][0]["value"] == f"0x{spi:08x}"
        assert rest(bed, f"/mappings/{page['items'][0]['id']}", "DELETE")[0] == 204
        assert client.notice().tuple[0] == ESP
        assert rest(bed, f"/mappings/{page['items'][0]['id']}", "DELETE")[0] == 404
        (lease,) = rest(bed, "/mappings")[1]["items"]
        assert gateway(bed, "nar", "end", lease["id"]) == f"ended TCP {NB}:{port}\n"
        assert rest(bed, f"/clients/{X1}", "DELETE")[0] == 204
        client.ends()
    wait_until(lambda: "No NAR client." in gateway(bed, "nar", "clients"), 10, "its end")
    held = ("nar", "audit", "--protocol", "tcp", "--value", str(port))
    wait_until(lambda: "ended by the administrator" in gateway(bed, *held), 10, "the audit")
    status, audit = rest(bed, f"/audit?client={X1}&limit=1")
    assert (status, audit["total"]) == (200, 2)
    assert audit["items"][0]["ended_by"] == "ended by the administrator"
    assert rest(bed, "/audit?at=noon")[0] == 422


def test_a_reload_says_what_it_does(bed: NarBed) -> None:
    bed.n.write_text(configuration(bed.n.folder, lease_s=60, ports=["25000-25999"]))
    said = gateway(bed, "reload")
    assert "changed nar.soho.lease_s: 600.0 -> 60.0 (from now on, leases stay)" in said
    assert 'changed nar.soho.ports: ["20000-29999"] -> ["25000-25999"]' in said
    client, _ = leasing(bed.lab, "x1", Y, flags=LEASES)
    with client:
        assert client.session()[2] == 60
        assert leased(client.ask(BIND, ANY, 0)) in range(25_000, 26_000)
        client.release()
