"""Where a stack runs: this machine, a Docker Swarm."""
