"""Transforms, key exchange, key derivation and message protection of IKE."""
