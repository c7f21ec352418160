"""The mobile node's networking with tunnels that the forwarder carries."""
