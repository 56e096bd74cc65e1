//! The server binary `plenum`: reads the command line and does what it says.

use std::process::ExitCode;

use clap::Parser;
use signaling::cli::Cli;

/// Gives back what a crowd has used once it is gone, which the C library's does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match signaling::cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plenum: {}", signaling::cli::explain(&error));
            ExitCode::FAILURE
        }
    }
}
