"""Devices as they are now, their traffic and failures, metrics, captures, support bundles."""

from gateway.control.operation import Operation

OBSERVATION_OPERATIONS: tuple[Operation, ...] = ()
