"""Mobile IPv4 in the kernel: ruleset, devices, routes, neighbours, and the slow path."""
