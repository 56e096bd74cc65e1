//! What the kernel allows: socket buffers and open files. What is too small is named with its remedy.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use net::UdpSockets;

/// A native participant takes one descriptor, two over TCP: rooms of 5,000 and some to spare.
const FILES_WANTED: u64 = 65_536;

/// Something of which the system gives only so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it is, as the system calls it.
    pub name: &'static str,
    /// How much is wanted, in bytes or pieces.
    pub wanted: u64,
    /// How much there is.
    pub given: u64,
    /// What happens with less than is wanted.
    pub consequence: &'static str,
    /// What to do when it is too little.
    pub remedy: Option<String>,
}

/// What the system would give a server with sockets of this size that is started like this program.
///
/// # Errors
/// The system gives no socket, or does not say.
pub fn limits(socket_buffer_bytes: usize) -> io::Result<Vec<Limit>> {
    let sockets = UdpSockets::bind(0, socket_buffer_bytes)?;
    let mut limits = vec![files(getrlimit(Resource::RLIMIT_NOFILE)?.1)];
    limits.extend(buffers(&[sockets], socket_buffer_bytes));
    Ok(limits)
}

/// Says so, once, when the kernel gives smaller buffers than wanted: bursts are lost then.
pub(super) fn check_buffers(sockets: &[UdpSockets], wanted_bytes: usize) {
    buffers(sockets, wanted_bytes).iter().for_each(warn);
}

fn buffers(sockets: &[UdpSockets], wanted_bytes: usize) -> [Limit; 2] {
    let receive = sockets.iter().map(UdpSockets::receive_buffer_bytes).min();
    let send = sockets.iter().map(UdpSockets::send_buffer_bytes).min();
    [("net.core.rmem_max", receive), ("net.core.wmem_max", send)].map(|(sysctl, given)| {
        let given_bytes = given.unwrap_or_default();
        Limit {
            name: sysctl,
            wanted: wanted_bytes as u64,
            given: given_bytes as u64,
            consequence: "media buffers are small, and bursts will be lost",
            remedy: buffer_remedy(sysctl, given_bytes, wanted_bytes),
        }
    })
}

fn buffer_remedy(sysctl: &str, given_bytes: usize, wanted_bytes: usize) -> Option<String> {
    (given_bytes < wanted_bytes).then(|| format!("run `sysctl -w {sysctl}={wanted_bytes}`"))
}

/// Takes all the open files the system allows, and says so when they are few.
pub(super) fn raise_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let given = getrlimit(Resource::RLIMIT_NOFILE).map_or(soft, |(soft, _)| soft);
    warn(&files(given));
}

fn files(given: u64) -> Limit {
    Limit {
        name: "open files",
        wanted: FILES_WANTED,
        given,
        consequence: "few files may be open, and connections will be refused",
        remedy: files_remedy(given),
    }
}

fn files_remedy(given: u64) -> Option<String> {
    (given < FILES_WANTED).then(|| {
        format!(
            "set `LimitNOFILE={FILES_WANTED}` in the systemd unit, or run `ulimit -Hn {FILES_WANTED}` \
             as root in the shell that starts the server"
        )
    })
}

fn warn(limit: &Limit) {
    if let Some(remedy) = &limit.remedy {
        let Limit { wanted, given, .. } = *limit;
        tracing::warn!(wanted, given, "{}: {remedy}", limit.consequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_is_named_with_its_line() {
        assert_eq!(
            buffer_remedy("net.core.rmem_max", 212_992, 4 << 20),
            Some("run `sysctl -w net.core.rmem_max=4194304`".to_owned())
        );
        assert_eq!(buffer_remedy("net.core.rmem_max", 4 << 20, 4 << 20), None);
    }

    #[test]
    fn few_files_are_named_with_their_line() {
        let remedy = files_remedy(4096).unwrap();
        assert!(remedy.contains("LimitNOFILE=65536"), "{remedy}");
        assert_eq!(files_remedy(FILES_WANTED), None);
    }

    #[test]
    fn all_limits_are_looked_at_with_what_is_too_small() {
        let more_than_any_kernel_gives = i32::MAX as usize;
        let limits = limits(more_than_any_kernel_gives).unwrap();
        let names: Vec<&str> = limits.iter().map(|limit| limit.name).collect();
        assert_eq!(
            names,
            ["open files", "net.core.rmem_max", "net.core.wmem_max"]
        );
        for limit in limits {
            assert_eq!(limit.remedy.is_some(), limit.given < limit.wanted);
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
