"""`repository serve`: repositories in a directory behind restic's REST protocol, with rights per user."""
