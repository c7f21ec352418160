"""The drafts' topology in network namespaces."""
