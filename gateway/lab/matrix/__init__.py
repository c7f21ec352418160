"""The interoperation matrix: every method with every peer in both roles, run and written down."""
