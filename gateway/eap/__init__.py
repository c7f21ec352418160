"""The Extensible Authentication Protocol (RFC 3748): both sides, without transport."""
