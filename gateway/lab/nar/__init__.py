"""The model of draft 004 section 2.1 in network namespaces: clients, the NAR box, hosts outside."""
