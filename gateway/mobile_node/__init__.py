"""The mobile node: where it is, which layers it needs, and its registrations. Sans IO."""
