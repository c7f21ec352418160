"""Configured objects: create, read, change, delete, list, and try out."""

from gateway.control.operation import Operation

OBJECT_OPERATIONS: tuple[Operation, ...] = ()
