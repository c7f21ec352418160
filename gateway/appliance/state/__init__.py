"""The durable state as a whole: export, import, backup."""
