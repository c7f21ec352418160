"""A device with our own engine, kernel dataplane and TCP tunnel, run on a host of the lab.

``python tcp_device.py FOLDER``: takes ``device.toml`` there, opens the tunnel and keeps it open,
and writes what happens to ``events`` as lines of JSON. With a file ``silent`` there, IKE says
nothing when the tunnel is made anew.
"""

import asyncio
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from gateway.appliance.ike_service import IkeService
from gateway.config import to_dataplane, to_policy
from gateway.config.loader import load
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.ike.engine import IkeEngine
from gateway.ike.transport import IkeSockets
from gateway.lab import planes
from gateway.mobile_host.tcp_encapsulation import TcpTunnel, TcpTunnelError

REOPEN_S = 0.2


async def run(folder: Path) -> None:
    config = load(folder / "device.toml")
    with (folder / "events").open("w", buffering=1) as out:

        def emit(event: Event) -> None:
            line = {"event": event.name, "text": event.text, **event.fields}
            out.write(json.dumps(line, default=str) + "\n")

        loop = asyncio.get_running_loop()
        down = asyncio.Event()

        def on_down(why: str) -> None:
            emit(Event("tcp_down", why))
            down.set()

        (policy,) = to_policy.connections(config)
        assert policy.remote is not None
        gateway = policy.remote.address
        assert isinstance(gateway, IPv4Address)
        tunnel = TcpTunnel(
            gateway, [443, 4500], interface="access1", mark=0x47580002, on_down=on_down, connect_s=2
        )
        endpoint = await tunnel.open()
        emit(Event("tcp_up", str(tunnel.port)))
        (ours,) = config.ike.listen
        sockets = IkeSockets(config.ike.listen)
        dataplane = planes.dataplane(to_dataplane.kernel_settings(config))
        dataplane.start()
        engine = IkeEngine(
            to_policy.engine_settings(config),
            [replace(policy, remote=endpoint, local=Endpoint(ours, config.ike.nat_port))],
            {},
            random=os.urandom,
            wall_clock=lambda: datetime.now(UTC),
        )
        service = IkeService(
            engine,
            dataplane,
            send=sockets.send,
            clock=loop.time,
            call_at=loop.call_at,
            emit=emit,
        )
        sockets.start(loop, service.receive, service.sort)
        engine.initiate(policy.name, loop.time())
        service.flush()
        while True:
            await down.wait()
            down.clear()
            while not tunnel.is_open:
                try:
                    await tunnel.open()
                except TcpTunnelError as error:
                    emit(Event("tcp_failed", str(error)))
                    await asyncio.sleep(REOPEN_S)
            emit(Event("tcp_up", str(tunnel.port)))
            # The gateway follows what is authentic; it may be long until there is traffic.
            if (folder / "silent").exists():
                continue
            for spis, _ in engine.ike_sa_names():
                spi, local = bytes.fromhex(spis.partition("_")[0]), Endpoint(ours, 4500)
                engine.local_address_changed(spi, local, loop.time())
            service.flush()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
