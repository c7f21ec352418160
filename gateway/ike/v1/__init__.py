"""IKEv1: phase 1, quick mode, configuration, informational exchanges."""
