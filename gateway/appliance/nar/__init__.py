"""The NAR servers of this box joined to the world: connections, proxy, users, dataplane, disk."""
