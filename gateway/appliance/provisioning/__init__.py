"""Provisioning joined to the store, the files and the running gateway."""
