"""Carrying packets: one interface in the drafts' verbs and what implements it."""
