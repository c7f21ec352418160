"""The boxes of draft 001 section 2, each a `gateway run`, started side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gateway.lab.appliance import Appliance
from gateway.lab.mobility import roles
from gateway.lab.topology import Lab

Write = Callable[[object], str]
"""From the folder of a box to its configuration."""


class Boxes:
    """Whichever gateways of a lab were started, by the name of their host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._boxes: dict[str, Appliance] = {}
        self._numbers = itertools.count(1)

    def __getitem__(self, host: str) -> Appliance:
        return self._boxes[host]

    def __contains__(self, host: object) -> bool:
        return host in self._boxes

    def items(self) -> list[tuple[str, Appliance]]:
        """Hosts and what runs there."""
        return list(self._boxes.items())

    def start(self, boxes: Mapping[str, Write]) -> None:
        """Start gateways on these hosts, all at the same time; those that ran there end first.

        Raises LabError with the log of one that does not come up.
        """
        self._together({host: self._boxes[host].stop for host in boxes if host in self._boxes})
        for host, write in boxes.items():
            box = Appliance(self.lab, name=f"gateway-{host}-{next(self._numbers)}", host=host)
            box.write_text(write(box.folder))
            self._boxes[host] = box
        self._together({host: self._boxes[host].start for host in boxes})

    def end(self, *hosts: str) -> None:
        """Stop the boxes of these hosts; without hosts, all."""
        ending = hosts or tuple(self._boxes)
        self._together({host: self._boxes[host].stop for host in ending if host in self._boxes})
        for host in ending:
            self._boxes.pop(host, None)

    def _together(self, acts: Mapping[str, Callable[[], object]]) -> None:
        if not acts:
            return
        with ThreadPoolExecutor(len(acts)) as pool:
            for future in [pool.submit(act) for act in acts.values()]:
                future.result()


def agents(**outside: Any) -> dict[str, Write]:  # noqa: ANN401 - keys of a table
    """Both home agents and both foreign agents; `outside` are further keys of the x-HA."""
    return {
        "iha": roles.inside_home_agent,
        "ifa": lambda folder: roles.foreign_agent("ifa", folder, advertisement_interval_s=1),
        "xha": lambda folder: roles.outside_home_agent(folder, **outside),
        "xfa": lambda folder: roles.foreign_agent("xfa", folder, advertisement_interval_s=1),
    }


def vpn(**keys: Any) -> dict[str, Write]:  # noqa: ANN401 - keys of a table
    """The VPN gateway, with further keys of its connections or of `roles.vpn_gateway`."""
    return {"gw": lambda folder: roles.vpn_gateway(folder, **keys)}
