"""Builds the engines and the dataplane of the NAR servers."""

import errno
import os
import time
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from gateway.appliance.nar.plan import AddressOf, NarPlan, NarServerPlan, NarTls, Planner
from gateway.config import to_nar
from gateway.config.document import Config
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.plane import Plane
from gateway.nar.policy import NarServerPolicy
from gateway.nar.server.engine import NarServer
from gateway.nar.service import Occupied


class NarParts:
    """The real ones."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        """Which dataplane this process has."""

    def engine(self, policy: NarServerPolicy, occupied: Occupied) -> NarServer:
        """Without any session."""
        return NarServer(policy, random=os.urandom, wall_clock=time.time, occupied=occupied)

    def dataplane(self, settings: NarSettings) -> KernelNar:
        """A started dataplane; raises :class:`DataplaneUnavailableError`."""
        dataplane = self._made(settings)
        dataplane.start()
        return dataplane

    def _made(self, settings: NarSettings) -> KernelNar:
        if not self.plane.portable:
            return KernelNar(settings)
        from gateway.dataplane.portable.nar.dataplane import PortableNar  # noqa: PLC0415 - if used

        try:
            forwarder = self.plane.forwarder()
            if not self.plane.shared.marks:
                text = f"NAR in user space needs {self.plane.shared.marks_need}"
                forwarder.close(keep=True)
                raise DataplaneUnavailableError(errno.ENOSYS, text)
            return PortableNar(settings, forwarder)
        except DataplaneUnavailableError:
            raise
        except OSError as error:
            text = error.strerror or str(error)
            raise DataplaneUnavailableError(error.errno or errno.EIO, text) from error


def nar_planner(config: Config) -> Planner:
    """Makes the plan of this configuration with the addresses that there are."""

    def plan(address_of: AddressOf, local: Collection[IPv4Address]) -> NarPlan:
        settings = to_nar.nar_settings(config, address_of)
        if settings is None:
            raise ValueError("no NAR server is configured")
        listeners = {one.name: one for one in to_nar.nar_listeners(config)}
        lent = to_nar.lent_interfaces(config)
        ours = tuple(IPv4Network(one) for one in sorted(local))
        servers = []
        for policy in to_nar.nar_policies(config, address_of):
            listener = listeners[policy.name]
            forbidden = tuple(dict.fromkeys((*policy.forbidden, *ours)))
            files = (listener.certificate, listener.private_key)
            servers.append(
                NarServerPlan(
                    replace(policy, forbidden=forbidden),
                    listener.listen,
                    listener.tls_listen,
                    NarTls(files[0], files[1]) if files[0] and files[1] else None,
                    lent.get(policy.name, ()),
                )
            )
        shared = config.nar_settings
        return NarPlan(
            tuple(servers),
            settings,
            shared.state_dir,
            shared.audit,
            shared.audit_rows,
            shared.audit_days * 86_400.0,
        )

    return plan
