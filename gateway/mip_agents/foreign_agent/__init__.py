"""The foreign agent: relays registrations and keeps the list of visitors (RFC 5944, 3.7)."""
