"""Every metric: its name is stable, and ``docs/observability.md`` lists it."""

from typing import Final

from gateway.appliance.observation.exposition import Metric

_C, _G, _H = "counter", "gauge", "histogram"

METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("gateway_up", _G, "1 while the core answers."),
        Metric("gateway_build_info", _G, "1; the version is a label.", ("version", "python")),
        Metric("gateway_start_time_seconds", _G, "When the core started, since the epoch."),
        Metric("gateway_takeovers_total", _C, "1 if this start took over sessions of another."),
        Metric("gateway_reloads_total", _C, "Times the configuration was read again.", ("result",)),
        Metric(
            "gateway_connection_configured", _G, "1 for a configured connection.", ("connection",)
        ),
        Metric("gateway_connection_up", _G, "1 while it has a session.", ("connection",)),
        Metric("gateway_sessions", _G, "Sessions (IKE SAs) that are up.", ("connection",)),
        Metric("gateway_child_sas", _G, "Child SAs that are installed.", ("connection",)),
        Metric("gateway_half_open", _G, "IKE SAs that are not established."),
        Metric("gateway_devices", _G, "Devices by where they are.", ("where",)),
        Metric("gateway_devices_by_mode", _G, "Devices by access mode (draft 001).", ("mode",)),
        Metric("gateway_bindings", _G, "Bindings of a home agent.", ("home_agent",)),
        Metric("gateway_visitors", _G, "Visitors of a foreign agent.", ("foreign_agent",)),
        Metric("gateway_nar_leases", _G, "Leases of NAR clients."),
        Metric("gateway_nar_clients", _G, "Addresses that have NAR leases."),
        Metric("gateway_pool_addresses", _G, "Addresses a pool can give out.", ("pool",)),
        Metric("gateway_pool_addresses_used", _G, "Of those, given out.", ("pool",)),
        Metric(
            "gateway_traffic_bytes_total",
            _C,
            "Inner octets; in is from devices.",
            ("connection", "direction"),
        ),
        Metric(
            "gateway_traffic_packets_total",
            _C,
            "Inner packets; in is from devices.",
            ("connection", "direction"),
        ),
        Metric(
            "gateway_device_traffic_bytes_total",
            _C,
            "Inner octets of a device since it connected; only where devices are asked for.",
            ("device", "direction"),
        ),
        Metric("gateway_handshakes_total", _C, "Logins that succeeded.", ("connection",)),
        Metric(
            "gateway_login_failures_total",
            _C,
            "Logins that failed; reason is a notify of IKE or TIMEOUT, ABANDONED, BLOCKED, OTHER.",
            ("connection", "step", "reason"),
        ),
        Metric(
            "gateway_registration_failures_total",
            _C,
            "Registrations that were denied; reason is a code of RFC 5944.",
            ("agent", "reason"),
        ),
        Metric(
            "gateway_last_handshake_age_seconds",
            _G,
            "Since the last successful login.",
            ("connection",),
        ),
        Metric("gateway_rekeys_total", _C, "IKE SAs renewed, by how.", ("connection", "how")),
        Metric("gateway_child_rekeys_total", _C, "Child SAs renewed."),
        Metric("gateway_moves_total", _C, "Endpoint moves, by proof.", ("connection", "proof")),
        Metric(
            "gateway_handover_gap_seconds",
            _H,
            "From the last sign by the old way to the first by the new.",
        ),
        Metric("gateway_retransmissions_total", _C, "IKE requests that were sent again."),
        Metric("gateway_ike_events_total", _C, "Counters of the IKE engine.", ("event",)),
        Metric("gateway_ike_dropped_total", _C, "IKE messages dropped, by reason.", ("reason",)),
        Metric("gateway_socket_events_total", _C, "Counters of the IKE sockets.", ("event",)),
        Metric("gateway_mobility_events_total", _C, "Counters of an agent.", ("agent", "event")),
        Metric("gateway_nar_events_total", _C, "Counters of the NAR servers.", ("part", "event")),
        Metric("gateway_dataplane_events_total", _C, "Counters of a dataplane.", ("part", "event")),
        Metric("gateway_control_events_total", _C, "Counters of the control socket.", ("event",)),
        Metric("gateway_log_lines_suppressed_total", _C, "Log lines left out in a flood."),
        Metric("gateway_warnings_total", _C, "Warnings, those left out included."),
        Metric("gateway_store_writes_total", _C, "Rows of history and usage written."),
        Metric("gateway_store_write_failures_total", _C, "Writes the store did not take."),
        Metric("gateway_store_rows_lost_total", _C, "Rows given up while it took none."),
        Metric("gateway_store_rows_waiting", _G, "Rows not written yet."),
        Metric("gateway_captures_running", _G, "Packet captures that run."),
        Metric("gateway_resident_memory_bytes", _G, "Of the core."),
        Metric("gateway_cpu_seconds_total", _C, "Processor time of the core."),
        Metric("gateway_open_descriptors", _G, "Of the core."),
        Metric("gateway_event_loop_lag_seconds", _G, "How late the last sampling turn came."),
        Metric(
            "gateway_certificate_expiry_seconds",
            _G,
            "Until a certificate of ours expires; negative when it has.",
            ("file", "subject"),
        ),
        Metric("gateway_api_up", _G, "1 while the API's process runs."),
    )
}
