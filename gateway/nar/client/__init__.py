"""The NAR client's engine, see :class:`gateway.nar.client.engine.NarClient`."""
