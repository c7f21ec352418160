"""The NAR server (draft 004): connections, authorization, leases. See :mod:`.engine`."""
