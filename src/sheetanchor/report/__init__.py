"""Reports, status and metrics."""
