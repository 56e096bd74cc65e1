//! Asks the metadata service of a cloud provider: AWS (version 2), Google Cloud, Azure. All are at one
//! address, and each knows itself by a header that the others do not send.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::DiscoveryError;

/// Where all of them are.
pub(super) const ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

/// It is next door: who does not answer in this time is not there.
const PATIENCE: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: u64 = 4096;
const TOKEN_BYTES_MAX: usize = 512;

/// Wants a token first, so that a proxy cannot be made to ask.
const AWS_TOKEN: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
    X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const GOOGLE: &str = "GET /computeMetadata/v1/instance/network-interfaces/0/access-configs/0/\
    external-ip HTTP/1.1\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\
    Connection: close\r\n\r\n";
const AZURE: &str = "GET /metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress\
    ?api-version=2021-02-01&format=text HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\
    Connection: close\r\n\r\n";

/// The public address of this machine.
pub(super) fn ask(service: SocketAddr) -> Result<IpAddr, DiscoveryError> {
    let token = exchange(service, AWS_TOKEN).map_err(DiscoveryError::NoService)?;
    let aws = token.as_deref().and_then(aws_request);
    let requests = aws.into_iter().chain([GOOGLE.to_owned(), AZURE.to_owned()]);
    for request in requests {
        // A service that does not know the question may hang up.
        let answer = exchange(service, &request).ok().flatten();
        if let Some(ip) = answer.as_deref().and_then(address) {
            return Ok(ip);
        }
    }
    Err(DiscoveryError::NoAddress)
}

/// A token goes into a header as it is, so it has to be one word.
fn aws_request(token: &str) -> Option<String> {
    let is_word = token.bytes().all(|byte| byte.is_ascii_graphic());
    let is_token = is_word && (1..=TOKEN_BYTES_MAX).contains(&token.len());
    is_token.then(|| {
        format!(
            "GET /latest/meta-data/public-ipv4 HTTP/1.1\r\nHost: 169.254.169.254\r\n\
             X-aws-ec2-metadata-token: {token}\r\nConnection: close\r\n\r\n"
        )
    })
}

/// An address that somebody elsewhere could send to.
fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    (!ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback()).then_some(ip)
}

/// The body of the answer, if it is one that was asked for.
fn exchange(service: SocketAddr, request: &str) -> io::Result<Option<String>> {
    let mut stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Some leave the connection open although they were told not to.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(body(&answer)),
    }
}

/// The text of an answer with status 200.
fn body(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.split(' ');
    let is_ok = words.next()?.starts_with("HTTP/1.") && words.next()? == "200";
    is_ok.then(|| body.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\n\r\n203.0.113.1";

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Asks a service that answers each request by what it says.
    fn asked(answer: impl Fn(&str) -> String + Sync) -> Result<IpAddr, DiscoveryError> {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = service.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let (mut stream, _) = service.accept().unwrap();
                    let mut request = [0; 1024];
                    let length = stream.read(&mut request).unwrap();
                    if length == 0 {
                        return;
                    }
                    let request = std::str::from_utf8(&request[..length]).unwrap();
                    stream.write_all(answer(request).as_bytes()).unwrap();
                }
            });
            let found = ask(place);
            drop(TcpStream::connect(place).unwrap());
            found
        })
    }

    #[test]
    fn each_provider_is_asked_in_its_own_way() {
        let aws = |request: &str| match request {
            _ if request.starts_with("PUT /latest/api/token ") => ok("a=token"),
            _ if request.contains("\r\nX-aws-ec2-metadata-token: a=token\r\n") => ok("203.0.113.1"),
            _ => "HTTP/1.1 401 Unauthorized\r\n\r\n".to_owned(),
        };
        assert_eq!(asked(aws).unwrap().to_string(), "203.0.113.1");
        let google = |request: &str| match request.contains("\r\nMetadata-Flavor: Google\r\n") {
            true => ok("203.0.113.2"),
            false => NOT_FOUND.to_owned(),
        };
        assert_eq!(asked(google).unwrap().to_string(), "203.0.113.2");
        let azure = |request: &str| match request.contains("\r\nMetadata: true\r\n") {
            true => ok("203.0.113.3\n"),
            false => "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
        };
        assert_eq!(asked(azure).unwrap().to_string(), "203.0.113.3");
    }

    #[test]
    fn what_is_no_address_is_none() {
        for answer in [
            "",
            "<html>",
            "0.0.0.0",
            "127.0.0.1",
            "203.0.113.1, 203.0.113.2",
            "a b",
        ] {
            let found = asked(|_| ok(answer));
            assert!(
                matches!(found, Err(DiscoveryError::NoAddress)),
                "{answer}: {found:?}"
            );
        }
        assert!(matches!(
            asked(|_| NOT_FOUND.to_owned()),
            Err(DiscoveryError::NoAddress)
        ));
        assert!(matches!(
            asked(|_| "SSH-2.0".to_owned()),
            Err(DiscoveryError::NoAddress)
        ));
    }

    #[test]
    fn no_service_is_told_apart() {
        let place = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(matches!(ask(place), Err(DiscoveryError::NoService(_))));
    }

    #[test]
    fn a_token_cannot_bring_headers_of_its_own() {
        assert!(aws_request("abc==").is_some());
        for token in ["", "a b", "a\r\nHost: b", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(aws_request(token), None, "{token:?}");
        }
    }
}
