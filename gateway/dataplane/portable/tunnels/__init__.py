"""Tunnel devices without a kernel that has them: packets of links in and out of their tunnels.

What Linux' ipip, gre and FOU devices do, :mod:`.engine` does: :mod:`.encapsulate` makes what is
sent, :mod:`.open` says which link a packet from the wire comes out of. Sockets are not here.
"""
