//! The command line: serve, tokens, rooms, participants and broadcasts, configuration.
#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock and the network"
)]

mod broadcast;
mod client;
mod doctor;
mod remote;
mod runtime;
mod serve;
mod token;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::config::Config;

/// Plenum hosts WebRTC video rooms.
#[derive(Debug, Parser)]
#[command(name = "plenum", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without any command).
    Serve(Serve),
    /// Make and check tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// List, show and end the rooms of the running server.
    #[command(subcommand)]
    Rooms(remote::RoomsCommand),
    /// List, remove and mute participants of the running server.
    #[command(subcommand)]
    Participants(remote::ParticipantsCommand),
    /// Begin, end and list live broadcasts of the running server's rooms.
    #[command(subcommand)]
    Broadcast(broadcast::BroadcastCommand),
    /// Check or print the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Try every way in which clients reach the server, and say what to do where one fails.
    Doctor(doctor::Doctor),
}

/// How to run the server.
#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    source: ConfigSource,
    /// Try it out: needs no configuration, makes up a key, prints a join link.
    #[arg(long)]
    dev: bool,
    /// With --dev: HTTPS on this machine's address in the local network, and a QR code to join with.
    #[arg(long, requires = "dev")]
    lan: bool,
    /// What to log: error, warn, info, debug, or a filter.
    #[arg(long)]
    log: Option<String>,
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
struct ConfigSource {
    /// Configuration file (TOML); environment variables `PLENUM_SECTION__KEY` win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is usable, and if not, which option is wrong.
    Check(ConfigSource),
    /// Print the configuration in force as TOML, without secrets.
    Print(ConfigSource),
}

impl ConfigSource {
    fn load(&self) -> Result<Config> {
        let file: Option<&Path> = self.config.as_deref();
        Ok(Config::load(
            file,
            std::env::vars_os().filter_map(utf8_variable),
        )?)
    }
}

/// Variables that are not UTF-8 are none of ours.
fn utf8_variable(
    (name, value): (std::ffi::OsString, std::ffi::OsString),
) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for people.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(options) => serve::run(&options),
        Command::Token(command) => token::run(&command),
        Command::Rooms(command) => remote::rooms(command),
        Command::Participants(command) => remote::participants(command),
        Command::Broadcast(command) => broadcast::run(command),
        Command::Config(ConfigCommand::Check(source)) => {
            source.load()?;
            print("the configuration is fine")
        }
        Command::Config(ConfigCommand::Print(source)) => print(source.load()?.to_toml().trim_end()),
        Command::Doctor(options) => doctor::run(&options),
    }
}

/// An error with its causes in one line; a cause that the text names already is not repeated.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The key to sign with: the named one, or the only one.
fn choose_key<'a>(config: &'a Config, named: Option<&'a str>) -> Result<&'a str> {
    let keys = &config.auth.keys;
    if let Some(id) = named {
        let (id, _) = keys
            .get_key_value(id)
            .context("there is no key of this id in [auth.keys]")?;
        return Ok(id);
    }
    match keys.keys().next() {
        None => bail!("{NO_KEYS}"),
        Some(id) if keys.len() == 1 => Ok(id),
        Some(_) => bail!("there are several keys in [auth.keys]: choose one with --key"),
    }
}

const NO_KEYS: &str = "there is no API key. Put one into the configuration:\n\n    \
    [auth.keys]\n    app = \"<the output of: openssl rand -hex 32>\"\n\n\
    or set PLENUM_AUTH__KEYS__app, or try things out with: plenum serve --dev";

fn unix_time() -> Result<u64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs())
}

/// Writes a line to standard output; whoever reads it may have seen enough.
fn print(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = || std::io::Error::other("the port is in use");
        let bare = anyhow::Error::new(cause()).context("cannot listen");
        assert_eq!(explain(&bare), "cannot listen: the port is in use");
        let text = format!("cannot listen: {}", cause());
        let named = anyhow::Error::new(cause()).context(text.clone());
        assert_eq!(explain(&named), text);
    }
}
