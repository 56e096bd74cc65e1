//! Accepts connections and serves HTTP/1.1 on those that are for it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::Media;
use super::entry::{Entered, Entry, HEAD_TIMEOUT};

/// Connections at a time: file descriptors are left over for files and the media ports.
const CONNECTIONS_MAX: usize = 16_384;

/// Who answers what is asked for on a socket.
#[derive(Clone)]
pub(crate) struct Routes {
    router: Router,
    media: Option<Media>,
}

/// The same for one connection.
struct Answers {
    router: TowerToHyperService<Router>,
    media: Option<Media>,
}

impl Routes {
    /// A router for everything.
    pub(crate) fn new(router: Router) -> Self {
        Self {
            router,
            media: None,
        }
    }

    /// Has the media of broadcasts answered past the router.
    pub(crate) fn with_media(self, media: Media) -> Self {
        Self {
            media: Some(media),
            ..self
        }
    }

    /// For a connection with these ends.
    fn on(self, ends: super::Ends) -> Answers {
        Answers {
            router: TowerToHyperService::new(self.router.layer(Extension(ends))),
            media: self.media,
        }
    }
}

impl Service<hyper::Request<Incoming>> for Answers {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let (parts, body) = request.into_parts();
        match self.media.as_ref().filter(|_| Media::is_for(&parts)) {
            Some(media) => {
                let media = media.clone();
                Box::pin(async move { Ok(media.answer(parts).await) })
            }
            None => Box::pin(self.router.call(hyper::Request::from_parts(parts, body))),
        }
    }
}

/// A listening socket.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` becomes true, then lets open requests end.
    pub(crate) async fn serve(self, routes: Routes, entry: Entry, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stopped(&mut stop) => return,
            };
            let Ok((stream, remote)) = accepted else {
                // Out of file descriptors: what is open goes on, and some of it will end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (routes, entry, stop) = (routes.clone(), entry.clone(), stop.clone());
            tokio::spawn(async move {
                match entry.admit(stream, remote).await {
                    Some(Entered::Http(stream, ends)) => {
                        serve_http(stream, routes.on(ends), stop).await;
                    }
                    Some(Entered::Https(stream, ends)) => {
                        serve_http(*stream, routes.on(ends), stop).await;
                    }
                    None => {}
                }
                drop(permit);
            });
        }
    }
}

/// Returns once the server is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone already.
    stop.wait_for(|stop| *stop).await.ok();
}

async fn serve_http<S>(stream: S, answers: Answers, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let connection = server
        .serve_connection(TokioIo::new(stream), answers)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            // Errors end this connection and concern nobody else.
            connection.await.ok();
        }
    }
}
