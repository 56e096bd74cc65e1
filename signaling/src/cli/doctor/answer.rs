//! What WHEP is asked for and answers: the smallest offer that is one, candidates, TURN servers.

use std::net::SocketAddr;

use super::web::split_port;

/// Our half of ICE's short-term credentials.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) ufrag: String,
    pub(super) pwd: String,
    /// SHA-256 of a certificate that nobody will ask for, as SDP writes it.
    pub(super) fingerprint: String,
}

/// Offers to receive sound and pictures.
pub(super) fn write_offer(ours: &Ours) -> String {
    let Ours {
        ufrag,
        pwd,
        fingerprint,
    } = ours;
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=recvonly\r\na=rtcp-mux\r\n"
    );
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{transport}a=mid:0\r\na=rtpmap:111 opus/48000/2\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{transport}a=mid:1\r\na=rtpmap:96 VP8/90000\r\n\
         a=rtcp-fb:96 nack pli\r\na=rtpmap:97 H264/90000\r\na=rtcp-fb:97 nack pli\r\n\
         a=fmtp:97 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
    )
}

/// What an answer says about the way to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) ufrag: String,
    pub(super) pwd: String,
    /// Candidates over UDP, best first, each once.
    pub(super) udp: Vec<SocketAddr>,
    /// Candidates over TCP (passive, RFC 6544).
    pub(super) tcp: Vec<SocketAddr>,
}

impl Answer {
    /// `None` for an answer without ICE credentials.
    pub(super) fn read(sdp: &str) -> Option<Self> {
        let mut answer = Self::default();
        for line in sdp.lines() {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            match key {
                "a=ice-ufrag" => value.clone_into(&mut answer.ufrag),
                "a=ice-pwd" => value.clone_into(&mut answer.pwd),
                "a=candidate" => answer.take(value),
                _ => {}
            }
        }
        (!answer.ufrag.is_empty() && !answer.pwd.is_empty()).then_some(answer)
    }

    /// `<foundation> <component> <transport> <priority> <address> <port> …` (RFC 8839 §5.1).
    fn take(&mut self, candidate: &str) {
        let words: Vec<&str> = candidate.split(' ').collect();
        let &[_, _, transport, _, ip, port, ..] = words.as_slice() else {
            return;
        };
        let (Ok(ip), Ok(port)) = (ip.parse(), port.parse()) else {
            return;
        };
        let list = if transport.eq_ignore_ascii_case("udp") {
            &mut self.udp
        } else {
            &mut self.tcp
        };
        let address = SocketAddr::new(ip, port);
        // Every section repeats them.
        if !list.contains(&address) && list.len() < CANDIDATES_MAX {
            list.push(address);
        }
    }
}

/// A way to a TURN server (RFC 7065).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnKind {
    Udp,
    Tcp,
    Tls,
}

/// A TURN server, and what it is used with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TurnServer {
    pub(super) kind: TurnKind,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: String,
    pub(super) credential: String,
}

impl TurnServer {
    /// Reads `<turn:…>; rel="ice-server"; username="…"; credential="…"` (RFC 9725 §4.6); `None` for other
    /// links.
    pub(super) fn read(link: &str) -> Option<Self> {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let parameter = |name: &str| {
            let mut all = parameters.split(';').filter_map(|one| one.split_once('='));
            let (_, value) = all.find(|(key, _)| key.trim() == name)?;
            Some(value.trim().trim_matches('"').to_owned())
        };
        parameter("rel").filter(|rel| rel == "ice-server")?;
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kind = match (scheme, query) {
            ("turns", _) => TurnKind::Tls,
            ("turn", "transport=tcp") => TurnKind::Tcp,
            ("turn", _) => TurnKind::Udp,
            _ => return None,
        };
        let usual = if kind == TurnKind::Tls { 5349 } else { 3478 };
        let (host, port) = split_port(authority)?;
        Some(Self {
            kind,
            host: host.to_owned(),
            port: port.unwrap_or(usual),
            username: parameter("username")?,
            credential: parameter("credential")?,
        })
    }
}

/// More than any machine has addresses.
const CANDIDATES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\na=ice-lite\r\nm=audio 7800 UDP/TLS/RTP/SAVPF 111\r\n\
        a=ice-ufrag:00ab\r\na=ice-pwd:secret\r\n\
        a=candidate:1 1 udp 5 192.0.2.1 7800 typ host\r\n\
        a=candidate:2 1 udp 4 2001:db8::1 7800 typ host\r\n\
        a=candidate:3 1 tcp 3 192.0.2.1 7801 typ host tcptype passive\r\n\
        a=candidate:broken\r\na=candidate:4 1 udp 3 name.local 7800 typ host\r\n\
        m=video 7800 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 UDP 5 192.0.2.1 7800 typ host\r\n";

    #[test]
    fn an_answer_says_where_and_with_what() {
        let answer = Answer::read(ANSWER).unwrap();
        assert_eq!(
            (answer.ufrag.as_str(), answer.pwd.as_str()),
            ("00ab", "secret")
        );
        let texts = |list: &[SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&answer.udp), ["192.0.2.1:7800", "[2001:db8::1]:7800"]);
        assert_eq!(texts(&answer.tcp), ["192.0.2.1:7801"]);
        assert_eq!(Answer::read("v=0\r\na=ice-ufrag:00ab\r\n"), None);
    }

    #[test]
    fn links_name_turn_servers() {
        let link = |url: &str| {
            let text = format!(
                "<{url}>; rel=\"ice-server\"; username=\"1:a:0\"; credential=\"x=\"; \
                 credential-type=\"password\""
            );
            TurnServer::read(&text)
        };
        for (url, kind, host, port) in [
            (
                "turn:192.0.2.1:3479?transport=udp",
                TurnKind::Udp,
                "192.0.2.1",
                3479,
            ),
            ("turn:192.0.2.1", TurnKind::Udp, "192.0.2.1", 3478),
            (
                "turn:[2001:db8::1]:7800?transport=tcp",
                TurnKind::Tcp,
                "2001:db8::1",
                7800,
            ),
            (
                "turns:meet.example:443?transport=tcp",
                TurnKind::Tls,
                "meet.example",
                443,
            ),
        ] {
            let server = link(url).unwrap();
            assert_eq!(
                (server.kind, server.host.as_str(), server.port),
                (kind, host, port)
            );
            assert_eq!(
                (server.username.as_str(), server.credential.as_str()),
                ("1:a:0", "x=")
            );
        }
        assert_eq!(link("stun:192.0.2.1"), None);
        assert_eq!(link("turn:"), None);
        for text in [
            "",
            "<turn:a>",
            "<turn:a>; rel=\"other\"; username=\"u\"; credential=\"c\"",
            "<turn:a>; rel=\"ice-server\"; username=\"u\"",
        ] {
            assert_eq!(TurnServer::read(text), None, "{text}");
        }
    }
}
