"""A whole gateway whose packets go nowhere: `python -m bench.quiet_core CONFIG`, on any kernel.

The real core with its database, its control socket and its REST process; only IKE listens on
loopback and the dataplane keeps its books without a kernel.
"""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.absent_kernel import absent_kernel
from gateway.appliance import start
from gateway.appliance.keeper import fork_keeper
from gateway.appliance.parts import Parts
from gateway.config.document import Config
from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp


class QuietParts(Parts):
    """The gateway's parts but for its packets."""

    def sockets(self, config: Config, held: Sequence[socket.socket] = ()) -> IkeSockets:
        """On any free port."""
        for one in held:
            one.close()
        return IkeSockets(config.ike.listen, ike_port=0, nat_port=0, esp=EspInUdp.NONE)

    def dataplane(self, config: Config) -> KernelDataplane:
        """Books without a kernel."""
        return absent_kernel(self.kernel_settings(config))


def main() -> int:
    """Run until told to stop."""
    keeper = fork_keeper()
    start.Parts = QuietParts  # type: ignore[attr-defined]
    try:
        return start.start(Path(sys.argv[1]), keeper)
    finally:
        keeper.stop()


if __name__ == "__main__":
    sys.exit(main())
