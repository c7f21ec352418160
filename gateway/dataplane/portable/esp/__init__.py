"""ESP in user space: security associations, their selectors, and what becomes of each packet.

:mod:`.engine` is what a forwarder process runs, one packet at a time through :mod:`.inbound` or
:mod:`.outbound`; :mod:`.routing` finds the SA for what leaves, and :mod:`.owners` says which of
several processes has it.
"""
