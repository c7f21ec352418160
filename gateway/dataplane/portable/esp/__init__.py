"""ESP in user space: security associations, their selectors, and what becomes of each packet.

:mod:`.engine` is what a forwarder process runs, one packet at a time through :mod:`.inbound` or
:mod:`.outbound`. :mod:`.associations` has the verbs, :mod:`.routing` finds the SA for what leaves,
:mod:`.path_sizes` tells senders what does not fit, :mod:`.held_back` keeps packets until their SA
has moved, :mod:`.owners` says which of several processes has it, and :mod:`.state` is what is
handed on to a successor.
"""
