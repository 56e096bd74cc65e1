//! `plenum serve`: starts the server, prints the join link of `--dev`, waits for the end.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::token::join_link;
use super::{NO_KEYS, Serve, print, runtime, unix_time};
use crate::auth::{self, Claims, LIFETIME_MAX_S, PlenumClaim, VideoGrant};
use crate::candidates::{Concern, Offered};
use crate::config::{Config, Secret};
use crate::rooms::random_key;
use crate::{Certificate, Server};

/// The room of the printed link.
const DEV_ROOM: &str = "demo";
const DEV_KEY: &str = "dev";
/// Clients have this long to go before they are sent away.
const DRAIN: Duration = Duration::from_millis(500);

pub(super) fn run(options: &Serve) -> Result<()> {
    let mut config = options.source.load()?;
    if let Some(level) = &options.log {
        config.log.level.clone_from(level);
    }
    start_log(&config)?;
    if options.dev && config.auth.keys.is_empty() {
        config
            .auth
            .keys
            .insert(DEV_KEY.to_owned(), Secret::new(random_key()));
    }
    if config.auth.keys.is_empty() {
        bail!("{NO_KEYS}");
    }
    let certificate = if options.lan {
        Some(prepare_lan(&mut config)?)
    } else {
        None
    };
    let runtime = runtime::start().context("cannot start the async runtime")?;
    runtime.block_on(serve(options, config, certificate))
}

fn start_log(config: &Config) -> Result<()> {
    let level = &config.log.level;
    let filter = EnvFilter::try_new(level).with_context(|| format!("log.level: {level}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    log.try_init().map_err(|error| anyhow::anyhow!("{error}"))
}

async fn serve(
    options: &Serve,
    mut config: Config,
    certificate: Option<Certificate>,
) -> Result<()> {
    let server = match certificate {
        Some(certificate) => Server::start_https(&config, certificate).await?,
        None => Server::start(&config).await?,
    };
    config.http.addr = server.addr();
    let (udp, tcp) = (server.sfu().udp_ports(), server.sfu().tcp_port());
    tracing::info!(http = %server.addr(), ?udp, tcp, "plenum is ready");
    log_offered(&server.offered(), options.dev);
    if options.dev {
        print_link(&config, options.lan)?;
    }
    run_until_end(options, &server).await?;
    tracing::info!("going down");
    server.drain(DRAIN);
    tokio::time::sleep(DRAIN).await;
    server.shutdown().await;
    Ok(())
}

/// One line for each kind, and what keeps clients away. Who tries things out knows where that is.
fn log_offered(offered: &Offered, is_dev: bool) {
    for (kind, at) in offered.kinds() {
        tracing::info!("offered to clients: {kind} {at}");
    }
    let own = sfu::machine_addresses().unwrap_or_default();
    for concern in offered.concerns(&own) {
        if !is_dev || matches!(concern, Concern::Elsewhere { .. }) {
            tracing::warn!("{concern}");
        }
    }
}

/// Listens on all addresses with a certificate made on the spot for the one in the local network.
fn prepare_lan(config: &mut Config) -> Result<Certificate> {
    let address = lan_address().context("this machine has no address in a local network")?;
    config.http.addr = SocketAddr::new([0, 0, 0, 0].into(), config.http.addr.port());
    if config.http.public_url.is_empty() {
        let shown = SocketAddr::new(address, config.http.addr.port());
        config.http.public_url = format!("https://{shown}");
    }
    let names = vec![address.to_string(), "localhost".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    Ok(Certificate {
        cert: own.cert.der().to_vec(),
        key: own.signing_key.serialize_der(),
    })
}

/// The address this machine would reach the internet from; nothing is sent to find out.
fn lan_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn print_link(config: &Config, as_qr_code: bool) -> Result<()> {
    let key = config.auth.keys.keys().next().context("--dev has a key")?;
    let claims = Claims {
        exp: unix_time()? + LIFETIME_MAX_S,
        video: VideoGrant {
            room: Some(DEV_ROOM.to_owned()),
            room_join: Some(true),
            ..VideoGrant::default()
        },
        plenum: Some(PlenumClaim { guest: true }),
        ..Claims::default()
    };
    let link = join_link(config, DEV_ROOM, &auth::sign(&config.auth, key, claims)?);
    print("\nOpen this link in two windows, or send it to someone; it is good for 24 hours:\n")?;
    print(&format!("{link}\n"))?;
    if as_qr_code {
        let code = QrCode::new(&link).context("the link does not fit into a QR code")?;
        print(&code.render::<Dense1x2>().build())?;
        print("The browser will warn about the certificate, which was made a moment ago.\n")?;
    }
    Ok(())
}

/// Waits for SIGTERM or ctrl-c; SIGHUP reads API keys and certificate again, and ends a server that
/// has no file to read them from: its terminal was closed.
async fn run_until_end(options: &Serve, server: &Server) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            interrupted = tokio::signal::ctrl_c() => {
                return interrupted.context("cannot wait for ctrl-c");
            }
            _ = hangup.recv() => match options.source.config {
                Some(_) => {
                    reload_keys(options, server);
                    server.reload_certificate();
                }
                None => return Ok(()),
            }
        }
    }
}

/// Whatever is wrong with the file, the server goes on with the keys it has.
fn reload_keys(options: &Serve, server: &Server) {
    match options.source.load() {
        Ok(config) if config.auth.keys.is_empty() => {
            tracing::warn!("the configuration has no API keys now: those in force stay");
        }
        Ok(config) => {
            let keys = config.auth.keys.len();
            server.replace_keys(config.auth);
            tracing::info!(keys, "API keys read again");
        }
        Err(error) => {
            tracing::error!(error = super::explain(&error), "API keys stay as they are");
        }
    }
}
