"""The IKEv2 engine (RFC 7296), split by exchange."""
