"""Where a repository's bytes are: a directory, S3."""
