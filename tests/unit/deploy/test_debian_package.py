"""The Debian package: built for both architectures, unpacked, and run from there."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from gateway import __version__

ROOT = Path(__file__).resolve().parents[3]
ELF_MACHINES = {"amd64": 62, "arm64": 183}


def field(file: Path, name: str) -> str:
    found = subprocess.run(
        ["dpkg-deb", "--field", file, name], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def it_says_what_it_is(package: tuple[str, Path, Path]) -> None:
    architecture, file, _ = package
    assert field(file, "Package") == "gateway"
    assert field(file, "Version") == __version__
    assert field(file, "Architecture") == architecture
    assert "python3 (>= 3.11)" in field(file, "Depends")


def every_library_is_of_its_architecture(package: tuple[str, Path, Path]) -> None:
    architecture, _, content = package
    machines = set()
    libraries = list((content / "usr/lib/gateway").rglob("*.so*"))
    for library in libraries:
        header = library.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        machines.add(struct.unpack_from("<H", header, 18)[0])
    assert len(libraries) > 5
    assert machines == {ELF_MACHINES[architecture]}


def nothing_in_it_names_the_machine_that_built_it(package: tuple[str, Path, Path]) -> None:
    _, _, content = package
    needles = (str(ROOT).encode(), str(content).encode())
    for file in (content / "usr/lib/gateway/gateway").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(needle in data for needle in needles), file


def the_command_works_where_it_is_unpacked(package: tuple[str, Path, Path]) -> None:
    architecture, _, content = package
    if architecture != subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip():
        return  # its libraries are another machine's; the test above judges them
    told = subprocess.run(
        ["/usr/bin/python3", "-I", content / "usr/bin/gateway", "config", "example"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == (ROOT / "docs/gateway.toml.example").read_text()


def service_users_and_scripts_are_in_it(package: tuple[str, Path, Path]) -> None:
    _, _, content = package
    assert (content / "lib/systemd/system/gateway.service").is_file()
    assert "u gateway " in (content / "usr/lib/sysusers.d/gateway.conf").read_text()
    assert (content / "usr/lib/gateway/gateway/api/dashboard/index.html").is_file()
    assert (content / "usr/share/doc/gateway/monitoring/grafana.json").is_file()
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", content / "DEBIAN" / script], check=True)


def a_removal_keeps_what_an_administrator_stored(package: tuple[str, Path, Path]) -> None:
    _, _, content = package
    text = (content / "DEBIAN/postrm").read_text()
    guarded = text[text.index('if [ "$1" = purge ]') :]
    assert "/var/lib/gateway" in guarded
    assert "/var/lib/gateway" not in text[: text.index('if [ "$1" = purge ]')]


CHECKS = (
    it_says_what_it_is,
    every_library_is_of_its_architecture,
    nothing_in_it_names_the_machine_that_built_it,
    the_command_works_where_it_is_unpacked,
    service_users_and_scripts_are_in_it,
    a_removal_keeps_what_an_administrator_stored,
)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_package_is_built_and_works(architecture: str, tmp_path: Path) -> None:
    """One test for each architecture: a build takes longer than all that is looked at."""
    built = subprocess.run(
        [ROOT / "deploy/debian/build", architecture, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COMPRESSION": "0"},
    )
    assert built.returncode == 0, built.stderr
    file = Path(built.stdout.splitlines()[-1])
    content = tmp_path / "content"
    subprocess.run(["dpkg-deb", "--raw-extract", file, content], check=True)
    package = (architecture, file, content)
    for check in CHECKS:
        check(package)
    shutil.rmtree(content)
