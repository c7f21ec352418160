"""Mobile IPv4 messages (RFC 5944 and its extensions): dataclasses that parse and serialize."""
