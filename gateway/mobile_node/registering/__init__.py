"""One registration of the mobile node: what is sent, what is believed, what comes of it."""
