"""The built-in CA, certificates of devices, and bundles that set devices up."""

from gateway.control.operation import Operation

PROVISIONING_OPERATIONS: tuple[Operation, ...] = ()
