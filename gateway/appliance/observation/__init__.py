"""Who is where and how: the register of devices, traffic, metrics, captures, support bundles."""
