"""Mobile IPv4 agents (RFC 5944): their messages, later the home agent and the foreign agent."""
