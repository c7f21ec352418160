"""The dataplane for kernels without IPsec, tunnels and packet queues: user space carries packets.

The rules, sets and routes are those of the kernel dataplane; what the kernel lacks is put in its
place, so that rules cannot tell the difference:

- The xfrm interface is a pair of virtual Ethernet devices. What is routed to one end, the
  forwarder reads at the other with the packet's fwmark, and what the forwarder writes there comes
  out with the fwmark it was given, as from an xfrm interface (``wire/``).
- Security associations and their selectors are the forwarder's (``esp/``).
- Tunnel devices are such pairs as well, and the forwarder encapsulates (``tunnels/``).
- What rules would queue, they log to a netlink group and drop (:mod:`.logged_queue`).

The forwarder is one process for each processor in use (``worker/``). It outlives the gateway's
own process, as the kernel does: who starts next takes it over. :mod:`.forwarder` is what the rest
of the gateway sees of it.
"""
