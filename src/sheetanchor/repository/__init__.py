"""How backups are kept: the restic repository format, version 1 and 2."""
