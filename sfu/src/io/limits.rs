//! What the kernel allows: socket buffers and open files. What is too small is named with its remedy.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use net::UdpSockets;

/// A native participant takes one descriptor, two over TCP: rooms of 5,000 and some to spare.
const FILES_WANTED: u64 = 65_536;

/// Says so, once, when the kernel gives smaller buffers than wanted: bursts are lost then.
pub(super) fn check_buffers(sockets: &[UdpSockets], wanted_bytes: usize) {
    let receive = sockets.iter().map(UdpSockets::receive_buffer_bytes).min();
    let send = sockets.iter().map(UdpSockets::send_buffer_bytes).min();
    for (sysctl, given) in [("net.core.rmem_max", receive), ("net.core.wmem_max", send)] {
        let given_bytes = given.unwrap_or_default();
        if let Some(remedy) = buffer_remedy(sysctl, given_bytes, wanted_bytes) {
            tracing::warn!(
                wanted_bytes,
                given_bytes,
                "the kernel limits media buffers, and bursts will be lost: run `{remedy}`"
            );
        }
    }
}

fn buffer_remedy(sysctl: &str, given_bytes: usize, wanted_bytes: usize) -> Option<String> {
    (given_bytes < wanted_bytes).then(|| format!("sysctl -w {sysctl}={wanted_bytes}"))
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
    if let Some(remedy) = files_remedy(given) {
        tracing::warn!(
            wanted = FILES_WANTED,
            given,
            "the system allows few open files, and connections will be refused: {remedy}"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_is_named_with_its_line() {
        assert_eq!(
            buffer_remedy("net.core.rmem_max", 212_992, 4 << 20),
            Some("sysctl -w net.core.rmem_max=4194304".to_owned())
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
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
