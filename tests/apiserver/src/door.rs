//! Where connections come in, with TLS or without.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long a client may take to shake hands. Nobody else comes in meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// A listener.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Who is at the other end: the certificate that was shown, if any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer(pub(crate) Option<Vec<u8>>);

/// A connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Listener for Door {
    type Io = Box<dyn Wire>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            // As Go's server does it: an event is not kept back until the one before is acknowledged.
            drop(stream.set_nodelay(true));
            let Some(tls) = &self.tls else { return (Box::new(stream), Peer::default()) };
            if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = Peer(shown.map(|certificate| certificate.to_vec()));
                return (Box::new(stream), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::default())
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}
