"""The SAs as clients of the control socket see them: the API's names over the snapshots."""

from dataclasses import asdict

from gateway.dataplane.interface import Usage
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot

_NO_USAGE: dict[str, object] = dict.fromkeys(
    ("bytes_in", "packets_in", "bytes_out", "packets_out", "last_in_age_s")
)


def ike_sa_view(sa: IkeSaSnapshot) -> dict[str, object]:
    """An IKE SA as :class:`gateway.api.models.IkeSa` describes it."""
    return {
        "id": sa.spis,
        "version": sa.version,
        "connection": sa.connection,
        "state": sa.state,
        "initiator": sa.initiator,
        "local_id": sa.local_id,
        "remote_id": sa.peer,
        "auth": sa.auth,
        "user": sa.user or None,
        "profile": sa.profile or None,
        "local": sa.local,
        "remote": sa.remote,
        "nat": {"local": sa.local_natted, "remote": sa.remote_natted},
        "suite": sa.suite,
        "age_s": sa.age_s,
        "idle_s": sa.idle_s,
        "rekey_in_s": sa.rekey_in_s,
        "inner_addresses": list(sa.inner_addresses),
        "mobike": sa.mobike,
        "fragmentation": sa.fragmentation,
        "knows": {
            "endpoint_update": sa.peer_knows_endpoint_update,
            "vpn_fa": sa.peer_knows_vpn_fa,
        },
        "children": list(sa.child_sas),
        "last_move": sa.last_move,
    }


def child_sa_view(sa: ChildSaSnapshot, usage: Usage | None) -> dict[str, object]:
    """A child SA as :class:`gateway.api.models.ChildSa` describes it."""
    counted = _NO_USAGE if usage is None else asdict(usage)
    return {
        "spi_in": f"{sa.spi_in:08x}",
        "spi_out": f"{sa.spi_out:08x}",
        "reqid": sa.reqid,
        "ike_sa": sa.ike_spis,
        "connection": sa.connection,
        "state": sa.state,
        "remote_id": sa.peer,
        "local": sa.local,
        "remote": sa.remote,
        "suite": sa.suite,
        "encapsulation": "esp-in-udp" if sa.encapsulated else "esp",
        "endpoint_update": sa.endpoint_update,
        "vpn_fa": sa.vpn_fa,
        "local_ts": list(sa.local_ts),
        "remote_ts": list(sa.remote_ts),
        "age_s": sa.age_s,
        **counted,
        "last_move": sa.last_move,
    }
