"""A PostgreSQL server with all its databases."""
