"""gateway.toml as validated models."""
