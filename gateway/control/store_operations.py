"""The durable state as a whole: export, import, backup."""

from gateway.control.operation import Operation

STORE_OPERATIONS: tuple[Operation, ...] = ()
