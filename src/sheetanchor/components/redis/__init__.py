"""Redis and Valkey: capture by replication, proof by value, restore by replication."""
