"""The local user base: a file of users, their groups and what proves them."""
