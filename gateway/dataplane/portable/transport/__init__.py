"""Transport mode: what the host itself exchanges with a peer goes by the forwarder, or nowhere.

A kernel with IPsec asks its policies about each packet. Here a table of nftables does: what child
SAs in transport mode are for is marked on its way out and routed into the tunnel interface, where
the forwarder encrypts it; the same arriving in the clear is dropped.
"""
