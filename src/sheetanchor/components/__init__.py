"""What is protected; each module captures and restores one kind of data."""
