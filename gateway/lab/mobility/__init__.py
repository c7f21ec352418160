"""The whole topology of draft 001 section 2, and mobile nodes to move about in it."""
