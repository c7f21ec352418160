"""What tells a dataplane under our rules from a stand-in of tests."""


class RulesDataplane:
    """Inner packets pass the kernel's hooks by the tunnels' interface, whoever encrypts them.

    So what filters and presence write into nftables holds for them.
    """
