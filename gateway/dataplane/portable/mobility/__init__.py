"""Mobile IPv4 on kernels without tunnel devices and packet queues.

The rules, sets, maps and routes are those of :mod:`gateway.dataplane.kernel.mobility`. Its devices
are link pairs that the forwarder serves (:mod:`.links`); what it would queue is logged, or read
from the far end of such a pair (:mod:`.queue`).
"""
