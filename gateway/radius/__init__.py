"""RADIUS client: packets, questions, accounting. No sockets, no clock."""
