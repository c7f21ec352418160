"""What devices' paths carry: ``mtu`` works it out, ``path-test`` tries it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway.appliance.remote_access.part import Joint, Part
from gateway.control.protocol import ControlError, ErrorCode
from gateway.dataplane.packet import marks

if TYPE_CHECKING:
    from gateway.appliance.observation.device import Device
    from gateway.appliance.remote_access.part import Handler
    from gateway.appliance.remote_access.path_test import Target
    from gateway.control.protocol import Request
    from gateway.control.remote_access_views import DeviceMtu
    from gateway.dataplane.kernel.ways import Ways
    from gateway.domain.endpoint import IpAddress

MAX_TESTS: Final = 4
"""Path tests at a time."""
_CHILDREN: Final = 16


def build(joint: Joint) -> "Paths":
    """The part."""
    return Paths(joint)


class Paths(Part):
    """Has no state of its own but the tests that run."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._ways: Ways | None = None
        self._testing: set[str] = set()

    def handlers(self) -> "Mapping[str, Handler]":
        """See :class:`Part`."""
        return {"mtu": self._mtu, "path-test": self._path_test}

    async def stop(self, *, keep: bool) -> None:
        """See :class:`Part`."""
        del keep
        if self._ways is not None:
            self._ways.close()
            self._ways = None

    async def _mtu(self, request: "Request") -> object:
        return self._worked_out(self._joint.find_device(str(request.text("device"))))

    def _worked_out(self, device: "Device") -> "DeviceMtu":
        from gateway.appliance.remote_access.device_mtu import mtu_of, outer_ends  # noqa: PLC0415

        ends = outer_ends(device)
        way = None if ends is None else self._asked().of([ends])[0]
        return mtu_of(device, way, self._joint.config().dataplane.mtu)

    def _asked(self) -> "Ways":
        if self._ways is None:
            from gateway.dataplane.kernel.ways import Ways  # noqa: PLC0415 - when needed

            self._ways = Ways()
        return self._ways

    async def _path_test(self, request: "Request") -> object:
        from gateway.appliance.remote_access.path_test import path_test  # noqa: PLC0415

        device = self._joint.find_device(str(request.text("device")))
        target = self._target(device)
        if device.name in self._testing:
            raise ControlError(ErrorCode.BUSY, f"a path test of {device.name} is running")
        if len(self._testing) >= MAX_TESTS:
            raise ControlError(ErrorCode.BUSY, f"{MAX_TESTS} path tests are running: wait for one")
        self._testing.add(device.name)
        try:
            return await path_test(target)
        except OSError as error:
            text = f"the kernel refused to send to {target.address}: {error.strerror or error}"
            raise ControlError(ErrorCode.REFUSED, text) from None
        finally:
            self._testing.discard(device.name)

    def _target(self, device: "Device") -> "Target":
        from gateway.appliance.remote_access.path_test import Target  # noqa: PLC0415

        session = device.session
        grant = None if session is None else self._joint.grants().get(session.id)
        if session is None or grant is None or not grant.addresses:
            why = "is not connected" if session is None else "has no inner address to probe"
            raise ControlError(ErrorCode.REFUSED, f"{device.name} {why}", "device")
        address = grant.addresses[0]
        worked_out = self._worked_out(device)
        section = self._joint.config().dataplane
        return Target(
            device=device.name,
            source=self._source(device, address),
            address=address,
            interface=section.xfrm_interface,
            mark=marks.TO_DEVICE | grant.zone if grant.zone else 0,
            largest=section.mtu,
            expected=worked_out["effective"],
        )

    def _source(self, device: "Device", address: "IpAddress") -> "IpAddress":
        from gateway.appliance.remote_access.path_test import choose_source  # noqa: PLC0415

        session = device.session
        spis = list(session.children)[:_CHILDREN] if session is not None else []
        children = self._joint.engine.child_sas(self._joint.clock(), spis)
        selectors = [one for child in children for one in child.local_ts]
        outside = session.local.rpartition(":")[0] if session is not None else ""
        own = [one for _, one in self._asked().own_addresses()]
        source = choose_source(own, selectors, address, outside)
        if source is None:
            text = (
                f"the gateway has no address of its own within {' '.join(selectors) or 'nothing'}"
            )
            why = f"{text}, which is all that {device.name} may reach: test from a host there"
            raise ControlError(ErrorCode.REFUSED, why, "device")
        return source
