"""`gateway host`: modules and sysctls, shown, asked about, set."""

from pathlib import Path

import pytest

from gateway.cli import exits, host
from gateway.cli.host_preparation import MODULES, SYSCTLS, modules, sysctls

RELEASE = "6.1.0-test"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lib/modules" / RELEASE
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/net/xfrm/xfrm_user.ko\n")
    (folder / "modules.dep").write_text(
        "kernel/net/ipv4/esp4.ko.xz: kernel/net/xfrm/xfrm_algo.ko.xz\n"
        "kernel/net/netfilter/nfnetlink-queue.ko:\n"
    )
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("esp4 28672 0 - Live 0x0000000000000000\n")
    for name, value in {"net/ipv4/ip_forward": "0\n", "net/core/rmem_max": "8388608\n"}.items():
        path = tmp_path / "proc/sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    monkeypatch.setattr(host.os, "uname", type("Uname", (), {"release": RELEASE}), raising=True)
    return tmp_path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def run(argv: list[str], **_options: object) -> object:
        names.append(argv[1])
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(host.subprocess, "run", run)
    return names


def test_modules_are_judged_by_what_the_kernel_has(root: Path) -> None:
    found = {one.name: one.state for one in modules(RELEASE, root)}
    assert found["xfrm_user"] == "built in"
    assert found["esp4"] == "loaded"
    assert found["nfnetlink_queue"] == "not loaded"
    assert found["fou"] == "absent"
    assert set(found) == set(MODULES)


def test_a_larger_buffer_stays_and_what_a_kernel_lacks_is_no_fault(root: Path) -> None:
    found = {one.name: one for one in sysctls(root)}
    assert found["net.core.rmem_max"].right
    assert not found["net.ipv4.ip_forward"].right
    assert found["net.ipv6.conf.all.forwarding"].now is None
    assert found["net.ipv6.conf.all.forwarding"].right
    assert set(found) == set(SYSCTLS)


def test_a_dry_run_changes_nothing(root: Path, loaded: list[str]) -> None:
    assert host.prepare(yes=True, dry_run=True, root=root) == exits.OK
    assert loaded == []
    assert not (root / host.MODULES_FILE).exists()
    assert (root / "proc/sys/net/ipv4/ip_forward").read_text() == "0\n"


def test_without_consent_nothing_is_changed(
    root: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "")
    assert host.prepare(yes=False, dry_run=False, root=root) == exits.FAILED
    assert loaded == []
    assert not (root / host.SYSCTL_FILE).exists()


def test_with_consent_it_is_set_now_and_for_every_boot(root: Path, loaded: list[str]) -> None:
    assert host.prepare(yes=True, dry_run=False, root=root) == exits.OK
    assert loaded == ["nfnetlink_queue"]
    listed = (root / host.MODULES_FILE).read_text().splitlines()[1:]
    assert listed == ["esp4", "nfnetlink_queue"]
    assert "net.ipv4.ip_forward = 1\n" in (root / host.SYSCTL_FILE).read_text()
    assert "net.core.rmem_max = 8388608\n" in (root / host.SYSCTL_FILE).read_text()
    assert (root / "proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert (root / "proc/sys/net/core/rmem_max").read_text() == "8388608\n"


def test_a_second_time_there_is_only_what_failed(
    root: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    host.prepare(yes=True, dry_run=False, root=root)
    (root / "proc/modules").write_text("esp4 1 0\nnfnetlink_queue 1 0\n")
    loaded.clear()
    capsys.readouterr()
    assert host.prepare(yes=True, dry_run=False, root=root) == exits.OK
    assert loaded == []
    assert "Nothing to do." in capsys.readouterr().out
