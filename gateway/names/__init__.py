"""Names inside (draft 000, section 5): a forwarder for devices, and names for devices.

Everything that reads DNS messages runs in a process of its own without privileges; the core only
imports :mod:`~gateway.names.settings`, :mod:`~gateway.names.labels`, :mod:`~gateway.names.roster`,
:mod:`~gateway.names.channel` and :mod:`~gateway.names.publication`, which do not load dnspython.
"""
