"""The control socket: typed queries, commands and events between the core and its clients."""
