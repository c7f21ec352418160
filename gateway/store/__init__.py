"""Durable state: what administrators stored, what sessions there are, who did what."""
