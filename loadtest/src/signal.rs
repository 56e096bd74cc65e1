//! The `plenum.v1` WebSocket, frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// The subprotocol.
pub const SUBPROTOCOL: &str = "plenum.v1";

/// What comes out of a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A JSON object.
    Message(Value),
    /// The server closed, with its code when it gave one.
    Closed(Option<u16>),
}

impl Frame {
    /// The message's type; `closed` when it is none.
    pub fn kind(&self) -> &str {
        match self {
            Self::Message(message) => message["t"].as_str().unwrap_or_default(),
            Self::Closed(_) => "closed",
        }
    }

    /// The `code` of an `err` or `bye`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Message(message) => message["code"].as_str(),
            Self::Closed(_) => None,
        }
    }
}

/// A signaling socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Opens the WebSocket; says nothing yet.
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{server}/v1/signal").into_client_request()?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (stream, response) = tokio_tungstenite::client_async(request, stream).await?;
        let chosen = response.headers().get("sec-websocket-protocol");
        chosen
            .filter(|name| *name == SUBPROTOCOL)
            .context("another subprotocol was chosen")?;
        Ok(Self { stream })
    }

    /// Sends one object.
    pub async fn send(&mut self, message: &Value) -> Result<()> {
        self.send_text(message.to_string()).await
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: String) -> Result<()> {
        self.stream.send(Message::text(text)).await?;
        Ok(())
    }

    /// The next object, or that the socket is closed; does not lose a frame when dropped.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Frame::Message(serde_json::from_str(&text).unwrap_or_default());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Frame::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Frame::Closed(None),
            }
        }
    }

    /// Passes over the next frame unread; false once the socket is closed.
    pub async fn skip(&mut self) -> bool {
        matches!(
            self.stream.next().await,
            Some(Ok(frame)) if !frame.is_close()
        )
    }

    /// The next object within a time.
    pub async fn next_within(&mut self, within: Duration) -> Result<Frame> {
        tokio::time::timeout(within, self.next())
            .await
            .context("nothing came in time")
    }
}
