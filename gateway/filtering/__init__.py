"""Which rules apply to whom, and what they say together (draft 000; docs/rules.md). No I/O."""
