//! A client whose credentials are those of now.
//!
//! Tokens, certificates and kubeconfig files are replaced while the daemon runs, and what the library keeps of them is as
//! old as its client. So the client that others have is a shell around one that is made anew as soon as a file has
//! another content: before a request, and once more when the server does not know who asks (401).

use super::KubernetesError;
use super::client::{Access, Credentials, chain};
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a client is kept at least that the server does not know though no file has changed: the program that makes its
/// credentials (`exec` of a kubeconfig) may make others by then.
const KEEP: Duration = Duration::from_secs(10);

/// Makes clients, and hands requests to the newest.
#[derive(Clone)]
pub(super) struct Renewal(Arc<Inner>);

struct Inner {
    access: Access,
    newest: Mutex<Newest>,
    /// Counts clients.
    renewals: watch::Sender<u64>,
}

#[derive(Clone)]
struct Newest {
    client: Client,
    files: Vec<PathBuf>,
    /// What the files had in them.
    print: u64,
    made: Instant,
    /// Whether a program makes the credentials.
    by_program: bool,
    /// The content that no client could be made of.
    refused: Option<u64>,
}

impl Renewal {
    /// Reads the credentials, and says which server they are for.
    pub(super) async fn try_new(access: &Access) -> Result<(Self, String), KubernetesError> {
        // Two crates may bring a provider each, and then none is the default.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (newest, server) = Newest::read(access).await?;
        let inner =
            Inner { access: access.clone(), newest: Mutex::new(newest), renewals: watch::Sender::new(0) };
        Ok((Renewal(Arc::new(inner)), server))
    }

    /// The client for everybody.
    pub(super) fn client(&self) -> Client {
        let renewal = self.clone();
        let send = move |request| {
            let renewal = renewal.clone();
            async move { renewal.send(request).await }
        };
        Client::new(tower::service_fn(send), "default")
    }

    /// Raised when there is another client: what was refused before is worth another try.
    pub(super) fn renewals(&self) -> watch::Receiver<u64> {
        self.0.renewals.subscribe()
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let again = copy(&request);
        let newest = self.newest(|_| false).await;
        let response = newest.client.send(request).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let used = newest.made;
        let is_old = |newest: &Newest| newest.by_program && newest.made == used && used.elapsed() > KEEP;
        let newest = self.newest(is_old).await;
        match again {
            Some(request) if newest.made != used => newest.client.send(request).await,
            _ => Ok(response),
        }
    }

    /// The newest client, which is made anew if its files have changed, or for another reason.
    async fn newest(&self, is_old: impl Fn(&Newest) -> bool) -> Newest {
        let newest = self.lock().clone();
        let print = Credentials::print(&newest.files);
        let is_other = print != newest.print && newest.refused != Some(print);
        if !is_other && !is_old(&newest) {
            return newest;
        }
        match Newest::read(&self.0.access).await {
            Ok((renewed, _)) => {
                tracing::info!("the API server's or the own credentials were read again");
                *self.lock() = renewed.clone();
                self.0.renewals.send_modify(|count| *count += 1);
                renewed
            }
            Err(error) => {
                tracing::warn!(reason = chain(&error), "credentials cannot be read: the last ones are used");
                self.lock().refused = Some(print);
                newest
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // Each change is whole in itself.
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    async fn read(access: &Access) -> Result<(Self, String), KubernetesError> {
        // Looked at before they are read for good: what changes meanwhile is noticed by the next request.
        let files = Credentials::read(access).await?.files;
        let print = Credentials::print(&files);
        let credentials = Credentials::read(access).await?;
        let server = credentials.server();
        let by_program = credentials.config.auth_info.exec.is_some();
        let failed =
            |error: kube::Error| KubernetesError::Client { server: server.clone(), reason: chain(&error) };
        let client = Client::try_from(credentials.config).map_err(failed)?;
        let (made, refused) = (Instant::now(), None);
        Ok((Newest { client, files, print, made, by_program, refused }, server))
    }
}

/// The same request once more, if its body can be had again.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
