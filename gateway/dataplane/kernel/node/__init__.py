"""A mobile node in the kernel: its switch, its tunnels, and which packets take which layer."""
