"""Where packets of the forwarder come from and go to: link pairs and raw sockets, in batches.

:mod:`.links` makes the pairs, :mod:`.veth` carries packets of one, :mod:`.raw` those of the wire.
"""
