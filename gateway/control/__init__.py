"""The control socket: typed commands, queries and events."""
