//! A server started for one run, on free ports of loopback, and ended after it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loadtest::http::Request;
use loadtest::target::{Pass, Target};
use loadtest::token::Key;
use tokio::time::sleep;

/// A server that lives as long as this.
pub(crate) struct Started {
    child: Child,
    folder: PathBuf,
    /// Where it is and what lets bots in.
    pub(crate) target: Target,
}

impl Started {
    /// Starts a server and waits until it answers.
    pub(crate) async fn start(command: &str, shards: u16) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("--start names no command")?;
        let addr = free_address()?;
        let folder = std::env::temp_dir().join(format!("plenum-loadtest-{}", addr.port()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("plenum.toml");
        std::fs::write(&config, config_for(addr, shards))?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .args(words)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        let key = Key {
            id: KEY_ID.to_owned(),
            secret: KEY_SECRET.to_owned(),
        };
        let mut started = Self {
            child,
            folder,
            target: Target::plenum(addr, Pass::Key(key)),
        };
        started.wait_until_ready().await?;
        Ok(started)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY_WITHIN;
        loop {
            let reply = Request::new("GET", "/readyz").send(self.target.addr).await;
            if reply.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > end {
                let log = std::fs::read_to_string(self.folder.join("log"));
                bail!("the server did not start: {}", log.unwrap_or_default());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A free port of loopback; it may be taken by another before the server has it, and then it says so.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Loopback only, and limits that a thousand joins at once do not reach.
fn config_for(addr: SocketAddr, shards: u16) -> String {
    format!(
        "[http]\naddr = \"{addr}\"\n\
         [media]\nudp_port = 0\ntcp_port = 0\nshards = {shards}\nadvertise = [\"127.0.0.1\"]\n\
         audio_slots_max = 64\nvideo_slots_max = 64\n\
         [turn]\nport = 0\n\
         [auth.keys]\n{KEY_ID} = \"{KEY_SECRET}\"\n\
         [log]\nlevel = \"warn\"\n\
         [limits]\njoins_per_second = 100000\njoins_burst = 100000\n\
         failures_per_second = 100000\nfailures_burst = 100000\npending_sockets = 10000\n"
    )
}

const KEY_ID: &str = "loadtest";
/// Of a server that nobody but this machine reaches, for as long as a run takes.
const KEY_SECRET: &str = "only for load tests on loopback...";
const READY_WITHIN: Duration = Duration::from_secs(10);
