"""What administrators do: objects, access, provisioning, observation and the state as a whole."""
