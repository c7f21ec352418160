"""The dataplane of the Linux kernel: XFRM, nftables, NFQUEUE."""
