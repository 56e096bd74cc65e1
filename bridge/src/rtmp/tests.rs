//! The two machines against each other, and against peers that break the rules.
#![expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]

mod hostile;
mod media;
mod session;
mod wire;
