"""What is done, in which order: plan, then execute under a journal."""
