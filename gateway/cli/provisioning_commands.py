"""``gateway device`` and ``gateway ca``: options and help texts; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

device = typer.Typer(help="Devices: set them up, keep them out.", no_args_is_help=True)
authority = typer.Typer(help="The CA that issues devices' certificates.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the device.")]
PlatformOption = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        help="gateway-mn, strongswan, android, apple, windows, networkmanager or other.",
    ),
]
DaysOption = Annotated[
    int | None, typer.Option("--days", metavar="N", help="Life of its certificate.")
]
MinutesOption = Annotated[
    int | None, typer.Option("--minutes", metavar="N", help="Life of the link.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE|FOLDER|-", help="Write the file here; no link then."),
]
RequestOption = Annotated[
    Path | None,
    typer.Option("--request", metavar="FILE", help="Certificate request: its key stays there."),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="FILE", help="Issued elsewhere by a CA of this gateway."),
]


def _text(path: Path | None) -> str | None:
    return None if path is None else path.read_text("utf-8")


@device.command("add")
def add(  # noqa: PLR0917 - one option each
    name: NameArgument,
    platform: PlatformOption = "gateway-mn",
    identity: Annotated[
        str | None, typer.Option("--identity", help="What it proves to be; else by the connection.")
    ] = None,
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="Else the first that fits.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Who has it.")] = None,
    mobile_node: Annotated[
        str | None, typer.Option("--mobile-node", metavar="NAME", help="That it is, by hand.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="For yourself.")] = None,
    request: RequestOption = None,
    certificate: CertificateOption = None,
    days: DaysOption = None,
    minutes: MinutesOption = None,
    out: OutOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Make a device: its certificate and the one file that sets it up, behind a link."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        arguments: dict[str, object] = {
            "name": name,
            "platform": platform,
            "identity": identity,
            "connection": connection,
            "user": user,
            "mobile_node": mobile_node,
            "note": note,
            "request": _text(request),
            "certificate": _text(certificate),
            "lifetime_days": days,
            "link_minutes": minutes,
        }
        path = socket_of(socket, config)
        return provisioning.issue(path, "provision", arguments, out, as_json=as_json)

    finish(command)


@device.command("list")
def list_devices(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """List devices, and until when their certificates are good."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.devices(socket_of(socket, config), as_json=as_json)

    finish(command)


@device.command("bundle")
def bundle(  # noqa: PLR0917 - one option each
    name: NameArgument,
    platform: PlatformOption = None,
    request: RequestOption = None,
    certificate: CertificateOption = None,
    days: DaysOption = None,
    minutes: MinutesOption = None,
    out: OutOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Make another file for a device; what it has goes on working."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        arguments: dict[str, object] = {
            "name": name,
            "platform": platform,
            "request": _text(request),
            "certificate": _text(certificate),
            "lifetime_days": days,
            "link_minutes": minutes,
        }
        path = socket_of(socket, config)
        return provisioning.issue(path, "device-bundle", arguments, out, as_json=as_json)

    finish(command)


@device.command("rotate")
def rotate(  # noqa: PLR0917 - one option each
    name: NameArgument,
    days: DaysOption = None,
    minutes: MinutesOption = None,
    out: OutOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new file for a device, and revoke what it had."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        arguments: dict[str, object] = {
            "name": name,
            "lifetime_days": days,
            "link_minutes": minutes,
        }
        path = socket_of(socket, config)
        return provisioning.issue(path, "device-rotate", arguments, out, as_json=as_json)

    finish(command)


@device.command("revoke")
def revoke(name: NameArgument, socket: SocketOption = None, config: OptionalConfig = None) -> None:
    """Revoke a device's certificates for good; its sessions end."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.revoke(socket_of(socket, config), name)

    finish(command)


@device.command("block")
def block(name: NameArgument, socket: SocketOption = None, config: OptionalConfig = None) -> None:
    """Refuse a device's logins from now on, and end its sessions."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.block(socket_of(socket, config), name, blocked=True)

    finish(command)


@device.command("unblock")
def unblock(name: NameArgument, socket: SocketOption = None, config: OptionalConfig = None) -> None:
    """Let a device log in again."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.block(socket_of(socket, config), name, blocked=False)

    finish(command)


@authority.command("show")
def show(
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificates alone.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Show the CAs, the gateway's certificate and the state of the CRL."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.show_ca(socket_of(socket, config), as_json=as_json, pem=pem)

    finish(command)


@authority.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As devices show it.")],
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="ecdsa-p256 or ecdsa-p384.")
    ] = "ecdsa-p256",
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Make a new CA, as long as no device has a certificate of the one before."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.create_ca(socket_of(socket, config), name, algorithm)

    finish(command)


@authority.command("import")
def import_(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="PEM.")],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Its key; else it issues elsewhere."),
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Use a CA of your own for devices."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.import_ca(socket_of(socket, config), certificate, key)

    finish(command)


@authority.command("crl")
def crl(socket: SocketOption = None, config: OptionalConfig = None) -> None:
    """Print the list of revoked certificates, PEM."""

    def command() -> int:
        from gateway.cli import provisioning
        from gateway.cli.control import socket_of

        return provisioning.crl(socket_of(socket, config))

    finish(command)
