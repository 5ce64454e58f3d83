"""Tiers, retention, schedule: pure functions over plain records."""
