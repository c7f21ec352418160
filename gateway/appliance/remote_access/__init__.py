"""What a session's access means outside of IKE: presence, rules, names, reachability, bridges."""
