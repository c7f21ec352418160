"""NAR in the kernel: demultiplexing, translation and tunnels to clients (draft 004)."""
