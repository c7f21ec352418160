"""Who a peer is and how it proves it: identities, keys, certificates, AUTH payloads."""
