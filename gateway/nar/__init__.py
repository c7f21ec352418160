"""Negotiated Address Reuse (draft 004): SOCKS5 with NAR, leases, both sides. No I/O."""
