"""Pure functions on packets."""
