//! End to end: simulated participants in rooms of a server in this process, over loopback sockets.
//!
//! Nothing sleeps to wait for something: every wait is for a condition, with a bounded time.

mod e2e {
    mod data;
    mod doors;
    mod hostile;
    mod layers;
    mod load;
    mod loss;
    mod meeting;
    mod refused;
    mod sessions;
    mod shards;
    mod stage;
    mod stun;
}
