//! The public address of a machine behind a NAT, asked for once before anything starts (`media.discover`).

mod cloud;
mod stun;

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

use sfu::Discover;
use thiserror::Error;

use crate::config::Config;

/// Why the address stays unknown.
#[derive(Debug, Error)]
enum DiscoveryError {
    #[error("{server} is no STUN server that can be reached: {source}")]
    Stun { server: String, source: io::Error },
    #[error("no metadata service answers: {0}")]
    NoService(io::Error),
    #[error("the metadata service names no public address")]
    NoAddress,
    #[error("the addresses of this machine cannot be listed: {0}")]
    Own(io::Error),
    #[error("the search ended before its time")]
    Cancelled,
}

/// The configuration with what was found out in `media.advertise`: public addresses that are not this
/// machine's, then those that are. When nothing is found it stays as it is, and the log says why.
pub(crate) async fn discovered(config: &Config) -> Cow<'_, Config> {
    let media = config.media.clone();
    if media.discover == Discover::Off {
        return Cow::Borrowed(config);
    }
    // Names are looked up and sockets waited for: some seconds at most.
    let search = tokio::task::spawn_blocking(move || search(&media));
    let found = search.await.unwrap_or(Err(DiscoveryError::Cancelled));
    match found {
        Ok((public, own)) => {
            let advertise = merged(&public, &own);
            tracing::info!(?public, "public address found (media.discover)");
            if advertise == own {
                return Cow::Borrowed(config);
            }
            let mut config = config.clone();
            config.media.advertise = advertise;
            Cow::Owned(config)
        }
        Err(error) => {
            tracing::warn!(
                %error,
                "media.discover: only the addresses of this machine are offered to clients"
            );
            Cow::Borrowed(config)
        }
    }
}

/// The public addresses, and those of this machine.
fn search(media: &sfu::Config) -> Result<(Vec<IpAddr>, Vec<IpAddr>), DiscoveryError> {
    let public = match media.discover {
        Discover::Off => Vec::new(),
        Discover::Stun => stun::ask(&media.discover_stun)?,
        Discover::Cloud => vec![cloud::ask(cloud::ADDRESS)?],
    };
    let own = sfu::machine_addresses().map_err(DiscoveryError::Own)?;
    Ok((public, own))
}

/// What is not ours first: clients elsewhere need it, and those here try the next.
fn merged(public: &[IpAddr], own: &[IpAddr]) -> Vec<IpAddr> {
    let foreign = public.iter().filter(|ip| !own.contains(ip));
    foreign.chain(own).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use net::stun::{BINDING, Class, Message, MessageWriter, XOR_MAPPED_ADDRESS};

    use super::*;
    use crate::Server;

    #[test]
    fn public_addresses_come_first_unless_they_are_ours() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let own = ips(&["10.0.0.5", "2001:db8::5", "127.0.0.1"]);
        let expected = ips(&["203.0.113.9", "10.0.0.5", "2001:db8::5", "127.0.0.1"]);
        assert_eq!(
            merged(&ips(&["203.0.113.9", "2001:db8::5"]), &own),
            expected
        );
        assert_eq!(merged(&ips(&["10.0.0.5"]), &own), own);
    }

    fn config(server: &UdpSocket) -> Config {
        let mut config = Config::default();
        config.http.addr.set_port(0);
        (config.media.udp_port, config.media.tcp_port) = (0, 0);
        (config.media.shards, config.turn.port) = (1, 0);
        config.media.discover = Discover::Stun;
        config.media.discover_stun = server.local_addr().unwrap().to_string();
        config
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_offers_what_was_found_before_its_own_addresses() {
        let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = config(&asked);
        let answering = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 128];
            let (length, from) = asked.recv_from(&mut bytes).unwrap();
            let id = Message::parse(&bytes[..length]).unwrap().transaction_id;
            let mut writer = MessageWriter::new(&mut bytes, Class::Success, BINDING, &id).unwrap();
            let public = "203.0.113.9:4000".parse().unwrap();
            writer.put_xor_address(XOR_MAPPED_ADDRESS, public).unwrap();
            let length = writer.finish(None).unwrap();
            asked.send_to(&bytes[..length], from).unwrap();
        });
        let server = Server::start(&config).await.unwrap();
        answering.await.unwrap();
        let addresses = server.offered().addresses;
        assert_eq!(addresses[0].to_string(), "203.0.113.9");
        assert_eq!(addresses[1..], sfu::machine_addresses().unwrap());
        server.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_starts_when_nothing_is_found() {
        let gone = config(&UdpSocket::bind("127.0.0.1:0").unwrap());
        let server = Server::start(&gone).await.unwrap();
        assert_eq!(
            server.offered().addresses,
            sfu::machine_addresses().unwrap()
        );
        server.shutdown().await;
    }
}
