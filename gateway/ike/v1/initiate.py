"""The beginning of phase 1 as the initiator."""

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike import client, closing
from gateway.ike.core import Core
from gateway.ike.crypto.suites import NoProposalChosen
from gateway.ike.outputs import Severity
from gateway.ike.policy import ConnectionPolicy, V1Exchange
from gateway.ike.refusal import report
from gateway.ike.v1 import aggressive_mode, main_mode, methods
from gateway.ike.v1.sa import IkeSa


def start(core: Core, connection: ConnectionPolicy, now: float) -> None:
    """Send the first message of a connection that names its remote endpoint."""
    if connection.remote is None:
        raise ValueError(f"connection {connection.name} has no remote endpoint")
    remote = connection.remote
    local = connection.local or Endpoint(type(remote.address)(0), 500)
    core.count("handshakes_initiated")
    sa = _new(core, connection, Path(local, remote), now)
    client.began(core, connection, sa)
    _begin(core, sa, connection, now)


def renewal(core: Core, old: IkeSa, now: float) -> None:
    """Begin a new phase 1 with the peer of an established SA, where the old one is."""
    connection = core.connections.get(old.connection_name)
    if connection is None:
        return
    sa = _new(core, connection, old.path, now)
    sa.replaces = old
    sa.session_initiator = old.session_initiator
    core.count("handshakes_renewed")
    _begin(core, sa, connection, now)


def _new(core: Core, connection: ConnectionPolicy, path: Path, now: float) -> IkeSa:
    sa = IkeSa(core.new_ike_spi(), bytes(8), initiator=True, path=path, now=now)
    sa.connection = connection
    sa.local_id = connection.local_id
    core.add_sa(sa)
    return sa


def _begin(core: Core, sa: IkeSa, connection: ConnectionPolicy, now: float) -> None:
    aggressive = connection.v1_exchange is V1Exchange.AGGRESSIVE
    try:
        method = methods.method_of(connection, initiator=True)
        if aggressive and method.with_key:
            warn_of_exposure(core, connection, now)
        mode = aggressive_mode if aggressive else main_mode
        mode.start(core, sa, connection, method, now)
    except (methods.Unusable, NoProposalChosen) as wrong:
        report(
            core,
            connection.name,
            sa.path.remote,
            "configuration",
            str(wrong),
            f"change the configuration of connection {connection.name}",
            connection=connection.name,
            sa=sa,
        )
        closing.close(core, sa, str(wrong), now)


def warn_of_exposure(core: Core, connection: ConnectionPolicy, now: float) -> None:
    """Say what aggressive mode with a pre-shared key gives away."""
    core.emit_limited(
        f"aggressive {connection.name}",
        now,
        "aggressive_mode_exposes_key",
        f"connection {connection.name} uses aggressive mode with a pre-shared key: whoever asks"
        " or listens gets a hash to guess the key from offline; use main mode or certificates",
        Severity.WARNING,
        connection=connection.name,
    )
