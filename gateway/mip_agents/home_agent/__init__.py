"""The home agent: registrations, bindings, revocations (RFC 5944 section 3.8). Sans-IO."""
