"""``gateway setup``: from nothing to the dashboard of a running gateway.

It may be run again: what is done already is left as it is.
"""

import ipaddress
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from gateway.appliance.administration.networks import free_network
from gateway.cli import exits
from gateway.cli.admin import make_code
from gateway.cli.failure import complain
from gateway.cli.host_facts import HOST_NAME, Host, look_around
from gateway.cli.output import printable
from gateway.config.checks import HOME_NETWORKS
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError
from gateway.dataplane.kernel.routes_in_use import Route

STARTS_S = 30.0
POLL_S = 0.3
DASHBOARD_PORT = 8443
_SYSTEMD = Path("/run/systemd/system")
_UNIT = "gateway"
_API_USER = "gateway-api"
_MODE = 0o600
_PRIVATE = tuple(
    map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"))
)


class SetupError(Exception):
    """An answer that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line gave."""

    name: str | None = None
    outside: str | None = None
    address: str | None = None
    inside: str | None = None
    pool: str | None = None
    subnets: str | None = None
    dns: str | None = None
    dashboard: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """All that the first configuration needs."""

    name: str
    outside: str
    listen: IPv4Address
    address: str
    inside: str | None
    pool: IPv4Network
    subnets: str
    dns: str
    dashboard: str


def set_up(path: Path, wishes: Wishes, *, yes: bool, start: bool) -> int:
    """Ask, write the file, start the gateway, make pool and connection, print where to go on."""
    if path.exists() and _is_set_up(path):
        print(f"{path} is there, the gateway runs and has connections: nothing to set up.\n")
        with ControlClient(_control_of(path), timeout_s=60) as client:
            return make_code(client, as_json=False)
    host = look_around()
    ask = _proposal if yes or not sys.stdin.isatty() else _asked
    try:
        answers = answered(wishes, host, ask)
    except SetupError as error:
        complain(error)
        return exits.USAGE
    except EOFError:
        complain("no answer; give options, or --yes")
        return exits.USAGE
    if path.exists():
        print(f"{path} is there already and stays as it is.")
    else:
        _write(path, configuration(answers))
        print(f"wrote {path}")
    status = _check_host(path)
    if status != exits.OK:
        return status
    control = _control_of(path)
    if not _runs(control) and start:
        _start()
    if not _wait(control, STARTS_S if start else 0.0):
        print(f"\nThe gateway does not run yet. Start it: systemctl enable --now {_UNIT}")
        print(f"(or: gateway run --config {path}), then say `gateway setup` again.")
        return exits.OK if not start else exits.UNAVAILABLE
    return _finish(control, answers)


def _control_of(path: Path) -> Path:
    """Raises :class:`gateway.config.ConfigError`."""
    from gateway.config import load  # noqa: PLC0415 - only where there is a file

    return load(path, with_files=False).control_socket


def _is_set_up(path: Path) -> bool:
    try:
        with ControlClient(_control_of(path), timeout_s=5) as client:
            return client.call("setup-state").get("needed") is False
    except (OSError, ControlError):
        return False


def _finish(control: Path, answers: Answers) -> int:
    with ControlClient(control, timeout_s=60) as client:
        state = client.call("setup-state")
        if state.get("needed") is True and state.get("has_pool") is False:
            try:
                client.call(
                    "setup-basics",
                    pool=str(answers.pool),
                    subnets=answers.subnets,
                    dns=answers.dns or None,
                )
            except ControlError as error:
                complain(f"the first connection was not made: {error.message}")
                return exits.FAILED
            print(f"devices get addresses of {answers.pool} and reach {answers.subnets}")
        print()
        return make_code(client, as_json=False)


# -- questions -------------------------------------------------------------------------------

Ask = Callable[[str, str], str]
"""A question and the proposed answer."""


def _proposal(_question: str, proposed: str) -> str:
    return proposed


def _asked(question: str, proposed: str) -> str:
    hint = f" [{proposed}]" if proposed else ""
    return input(f"{question}{hint}: ").strip() or proposed


def answered(wishes: Wishes, host: Host, ask: Ask) -> Answers:
    """The answers, given or asked for. Raises :class:`SetupError`."""
    name = wishes.name or ask("Name of this gateway, as devices know it", host.name)
    _named("name", name)
    outside = wishes.outside or ask(
        f"Interface towards the internet ({', '.join(host.interfaces) or 'none found'})",
        host.default_interface or "",
    )
    listen = _address_of("outside", outside, host)
    public = name if "." in name else str(listen)
    address = wishes.address or ask("Host name or address that devices connect to", public)
    _named("address", address)
    others = [one for one in host.interfaces if one != outside]
    inside = (
        wishes.inside
        if wishes.inside is not None
        else ask(
            f"Interface towards your network ({', '.join(others) or 'none'}; - for none)",
            next(iter(others), "-"),
        )
    )
    inner = None if inside in ("", "-", outside) else inside
    inner_address = None if inner is None else _address_of("inside", inner, host)
    pool = checked_pool(
        wishes.pool or ask("Inner addresses of the devices", str(proposed_pool(host.routes) or "")),
        host.routes,
    )
    behind = [str(one) for one in host.networks_of(inner)] if inner is not None else []
    subnets = wishes.subnets or ask("What devices may reach", ",".join(behind) or "0.0.0.0/0")
    _networks(subnets)
    dns = (
        wishes.dns
        if wishes.dns is not None
        else ask("Name servers for devices (- for none)", _reachable(host, subnets))
    )
    dns = "" if dns == "-" else dns
    _addresses(dns)
    where = wishes.dashboard or str(inner_address or "127.0.0.1")
    return Answers(name, outside, listen, address, inner, pool, subnets, dns, _dashboard(where))


def _reachable(host: Host, subnets: str) -> str:
    """The host's own name servers, where devices get at them."""
    offered = [ipaddress.ip_network(part.strip()) for part in subnets.split(",")]
    found = [
        one for one in host.name_servers if any(ipaddress.ip_address(one) in n for n in offered)
    ]
    return ",".join(found) or "-"


def _named(what: str, text: str) -> None:
    if not HOST_NAME.fullmatch(text):
        raise SetupError(f"--{what} {printable(text)}: not a host name, such as vpn.example.com")


def _address_of(what: str, interface: str, host: Host) -> IPv4Address:
    found = host.address_of(interface) if interface else None
    if found is None:
        known = ", ".join(host.interfaces) or "none was found"
        raise SetupError(
            f"--{what} {printable(interface)}: no interface with an IPv4 address; there is: {known}"
        )
    return found


def proposed_pool(routes: Iterable[Route]) -> IPv4Network | None:
    """A random network that nothing on this host has."""
    return free_network(route.network for route in routes)


def checked_pool(text: str, routes: Iterable[Route]) -> IPv4Network:
    """The network, refused where devices could not use it. Raises :class:`SetupError`."""
    try:
        pool = IPv4Network(text)
    except ValueError as error:
        why = f"{error}; give one such as 10.83.112.0/22"
        raise SetupError(f"--pool {printable(text)}: {why}") from None
    for home in HOME_NETWORKS:
        if pool.overlaps(home):
            why = "home routers use it, and devices at such a home could not reach the gateway"
            raise SetupError(f"--pool {pool}: overlaps {home}: {why}; take a random 10.x network")
    if not 8 <= pool.prefixlen <= 30:
        raise SetupError(f"--pool {pool}: give a network from /8 to /30")
    for route in routes:
        if isinstance(route.network, IPv4Network) and pool.overlaps(route.network):
            why = f"this host has a route to {route.network} by {route.interface}"
            raise SetupError(f"--pool {pool}: {why}; take another network")
    return pool


def _networks(text: str) -> None:
    for part in text.split(","):
        try:
            ipaddress.ip_network(part.strip())
        except ValueError as error:
            raise SetupError(f"--subnets {printable(part)}: {error}") from None


def _addresses(text: str) -> None:
    for part in filter(None, text.split(",")):
        try:
            ipaddress.ip_address(part.strip())
        except ValueError as error:
            raise SetupError(f"--dns {printable(part)}: {error}") from None


def _dashboard(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdigit() and host):
        host, port = text, str(DASHBOARD_PORT)
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise SetupError(f"--dashboard {printable(text)}: {error}") from None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


# -- what is done ----------------------------------------------------------------------------


def configuration(answers: Answers) -> str:
    """The file: what belongs to this host. Everything else is in the store."""
    tables: Mapping[str, Mapping[str, object]] = {
        "gateway": {"name": answers.name},
        # A private address comes from somebody else and may change: then listen everywhere.
        **(
            {}
            if any(answers.listen in one for one in _PRIVATE)
            else {"ike": {"listen": [str(answers.listen)]}}
        ),
        "dataplane": {"outside_interfaces": [answers.outside]},
        "provisioning": {"enabled": True, "address": answers.address},
        "api": {"listen": answers.dashboard, **_api_user()},
    }
    lines = [
        "# Written by `gateway setup`. What belongs to this host stands here; pools, connections,",
        "# devices and users are in the store: see the dashboard, or `gateway get`.",
        "# All that can be set: gateway config example",
    ]
    for name, settings in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _api_user() -> dict[str, object]:
    """The user that the package made for the REST process."""
    try:
        pwd.getpwnam(_API_USER)
    except KeyError:
        return {}
    return {"user": _API_USER}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _give_to_service(new)
    new.rename(path)


def _give_to_service(file: Path) -> None:
    """The service runs as a user of its own, which must be able to read its configuration."""
    import grp  # noqa: PLC0415

    try:
        group = grp.getgrnam(_UNIT).gr_gid
        os.chown(file, -1, group)
        file.chmod(0o640)
    except (KeyError, PermissionError):
        return


def _check_host(path: Path) -> int:
    """Kernel, addresses and ports, as `gateway check` looks at them; prints only what is wrong."""
    from gateway.cli.check import verdict_table, verdicts  # noqa: PLC0415
    from gateway.cli.output import console  # noqa: PLC0415

    found, status = verdicts(path)
    # A running gateway makes these; before that there can be none.
    wrong = [one for one in found if one.state == "missing" and one.name != "connections"]
    if wrong:
        console().print(verdict_table(wrong))
        print("\nCorrect this, and say `gateway setup` again; `gateway host` prepares the kernel.")
    return status if wrong else exits.OK


def _runs(control: Path) -> bool:
    from gateway.cli.check import gateway_runs  # noqa: PLC0415

    return gateway_runs(control)


def _start() -> None:
    if not _SYSTEMD.is_dir():
        return
    command = ["systemctl", "enable", "--now", _UNIT]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        complain(f"{' '.join(command)}: {error}")
        return
    if done.returncode:
        complain(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def _wait(control: Path, most_s: float) -> bool:
    ends = time.monotonic() + most_s
    while not _runs(control):
        if time.monotonic() >= ends or not (_SYSTEMD.is_dir() or most_s == 0):
            return False
        time.sleep(POLL_S)
    return True
