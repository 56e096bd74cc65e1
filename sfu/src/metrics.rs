//! Counters of a shard: plain integers, published once a second, and their Prometheus names.
