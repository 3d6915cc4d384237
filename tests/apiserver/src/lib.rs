//! A Kubernetes API server for tests: lists and watches of what it is given, and failures as it is told.
//!
//! It does what a client that follows objects can see: lists in pages, watches from a resource version, streaming lists
//! (`sendInitialEvents`) with their closing bookmark, bookmarks, `410 Gone` for versions that it has forgotten, label and
//! field selectors, and patches of a node's status. It knows clients by bearer tokens or, over TLS, by their certificates.
//! On request it refuses, is slow, cuts connections in the middle of a line, or answers with nonsense.
//!
//! What it does not show: authorization, admission, validation, defaults, protobuf, consistency between several servers,
//! and how long a real one takes. It knows the selectors that Millrace uses and no others.

#![forbid(unsafe_code)]

mod answer;
mod authority;
mod door;
mod request;
mod store;

pub use authority::{Authority, Identity};
pub use store::{Faults, Known, Store};

use door::{Door, Peer};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A running server, on a thread of its own; it ends when this is dropped, and its connections with it.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    store: Arc<Store>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ApiServer {
    /// A server without objects at a free port of 127.0.0.1.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start() -> std::io::Result<Self> {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(Store::default()))
    }

    /// A server at this address with these objects: those of one that has ended, for instance.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start_with(address: SocketAddr, store: Arc<Store>) -> std::io::Result<Self> {
        Self::open(address, store, None)
    }

    /// The same with TLS; its certificate is from this authority.
    ///
    /// # Errors
    /// The operating system's, or there is no randomness.
    pub fn start_tls(
        address: SocketAddr,
        store: Arc<Store>,
        authority: &Authority,
    ) -> Result<Self, Box<dyn Error>> {
        let config = authority.server(address.ip())?;
        Ok(Self::open(address, store, Some(TlsAcceptor::from(Arc::new(config))))?)
    }

    fn open(address: SocketAddr, store: Arc<Store>, tls: Option<TlsAcceptor>) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let router = request::router(Arc::clone(&store));
        let thread = std::thread::Builder::new().name("apiserver".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let router = router.into_make_service_with_connect_info::<Peer>();
                tokio::select! {
                    _ = stopped => {}
                    _ = axum::serve(Door { listener, tls }, router) => {}
                }
            });
        })?;
        Ok(ApiServer { address, store, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it holds; outlives it.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The text of a kubeconfig that leads to it, with a token.
    pub fn kubeconfig(&self) -> String {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {"token": "token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
