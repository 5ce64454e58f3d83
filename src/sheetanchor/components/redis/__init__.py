"""Redis and Valkey: captured and restored over the replication protocol, proven by value.

`component` is what others use. Below it: `rdb` takes the data of a server, `scratch` loads it
in a server of our own, `digest` and `values` read all that a server holds, `proof` compares;
`staged` keeps the old data and exchanges it, by `exchange`, `feed` and `pause`.
"""
