"""NAR on kernels without tunnel devices, L2TP and packet queues."""
