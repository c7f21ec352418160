"""The processes of the forwarder: sockets around the engines, and the core's wishes.

It imports little, and stays small: see :mod:`.__main__` for how it starts.
"""
