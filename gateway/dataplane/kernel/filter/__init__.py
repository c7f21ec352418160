"""Rules in the kernel: one constant nftables table; devices and rules are elements of sets."""
