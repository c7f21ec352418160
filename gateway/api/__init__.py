"""The REST API, a process of its own without privileges."""
