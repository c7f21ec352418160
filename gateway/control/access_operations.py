"""Who may use the REST interface: tokens, administrators, their logins, and the audit."""

from gateway.control.operation import Operation

ACCESS_OPERATIONS: tuple[Operation, ...] = ()
