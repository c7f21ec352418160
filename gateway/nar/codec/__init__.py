"""Messages of SOCKS5 (RFC 1928, 1929) and NAR (draft 004, section 3)."""
