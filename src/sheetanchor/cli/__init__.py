"""What a person types: one file per command; parses, calls `app`, prints."""
