"""One PostgreSQL server with all its databases: captured by pg_dump, swapped by rename."""
