//! The server binary `plenum`: reads the command line and does what it says.

use std::process::ExitCode;

use clap::Parser;
use signaling::cli::Cli;

fn main() -> ExitCode {
    match signaling::cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plenum: {}", signaling::cli::explain(&error));
            ExitCode::FAILURE
        }
    }
}
