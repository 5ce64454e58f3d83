"""Backup, restore and disaster recovery for Docker Swarm stacks."""

__version__ = "0.1.0"
