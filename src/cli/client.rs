//! A client of the two sockets, for the commands that talk to a server.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message, Utf8Bytes,
        http::Uri,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after a heartbeat is due the server is still waited for.
const GRACE: Duration = Duration::from_secs(10);
/// Read and write buffers of a socket. The library's own default would be 128 KiB each, at once.
const BUFFER: usize = 4096;

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host and port, as a URL has them.
    authority: String,
}

/// Which of the two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Frontend,
    Backend,
}

/// One open socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    heard: Instant,
    /// After so long without a frame the connection counts as broken.
    patience: Option<Duration>,
}

/// What came from a socket.
#[derive(Debug)]
pub enum Incoming {
    Text(Utf8Bytes),
    /// The server has closed it; the code says whether to come back.
    Closed {
        code: u16,
        reason: String,
    },
}

impl Server {
    /// Reads an address such as `http://127.0.0.1:8080`; `ws://` does as well.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let expected = || format!("expected a server's address, as http://127.0.0.1:8080; found {url:?}");
        let uri: Uri = url.parse().with_context(expected)?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => bail!("TLS is not built yet: use http:// to a server on this machine"),
            _ => bail!(expected()),
        }
        let authority = uri.authority().with_context(expected)?;
        let authority =
            if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self { authority })
    }

    pub fn at(address: SocketAddr) -> Self {
        Self { authority: address.to_string() }
    }

    /// Opens one of its sockets.
    pub async fn open(&self, path: Path, client_id: &str) -> anyhow::Result<Socket> {
        let Self { authority } = self;
        let unreachable = || format!("no server answers at http://{authority}; is `duologue serve` running?");
        let connect = async {
            let stream = TcpStream::connect(authority).await.with_context(unreachable)?;
            stream.set_nodelay(true)?;
            let url = format!("ws://{authority}{}?client_id={client_id}", path.as_str());
            let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(0);
            let (stream, _) = client_async_with_config(url, stream, Some(config)).await.map_err(|error| {
                anyhow!("the server at http://{authority} refuses the connection: {error}")
            })?;
            Ok(Socket { stream, heard: Instant::now(), patience: None })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.with_context(unreachable)?
    }
}

impl Path {
    const fn as_str(self) -> &'static str {
        match self {
            Path::Frontend => "/ws/frontend-api",
            Path::Backend => "/ws/backend-api",
        }
    }
}

impl Socket {
    pub async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.stream.send(Message::text(frame.to_string())).await.context("the connection broke")
    }

    /// The next text, or the end. Pings are answered on the way.
    pub async fn next(&mut self) -> anyhow::Result<Incoming> {
        loop {
            let frame = match self.patience {
                Some(patience) => tokio::time::timeout_at(self.heard + patience, self.stream.next())
                    .await
                    .map_err(|_| anyhow!("nothing has come from the server for {patience:?}"))?,
                None => self.stream.next().await,
            };
            self.heard = Instant::now();
            return match frame {
                Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
                Some(Ok(Message::Close(frame))) => Ok(Incoming::closed(frame)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(error).context("the connection broke"),
                None => Ok(Incoming::closed(None)),
            };
        }
    }

    /// Reads `connection_established`. From now on something comes with each heartbeat, or the connection is dead.
    pub async fn established(&mut self) -> anyhow::Result<()> {
        let frame = self.next_json().await?;
        let heartbeat = frame["data"]["heartbeat_secs"].as_u64().context("no connection_established")?;
        self.patience = Some(Duration::from_secs(heartbeat) + GRACE);
        Ok(())
    }

    /// The next text; a closed socket is an error.
    pub async fn next_text(&mut self) -> anyhow::Result<Utf8Bytes> {
        match self.next().await? {
            Incoming::Text(text) => Ok(text),
            Incoming::Closed { code, reason } => bail!("the server closed the connection: {code} {reason}"),
        }
    }

    /// The next text as JSON.
    pub async fn next_json(&mut self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.next_text().await?).context("the server sent something that is not JSON")
    }
}

impl Incoming {
    fn closed(frame: Option<CloseFrame>) -> Self {
        let (code, reason) = frame
            .map_or((1006, String::new()), |frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
        Incoming::Closed { code, reason }
    }
}
