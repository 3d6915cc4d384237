//! Objects of a Kubernetes API server.
//!
//! Each kind is listed and watched on its own (`watch.rs`, `wire.rs`); one task brings all together and tells what is
//! different (`follow.rs`, `told.rs`). Nothing is deleted because it was not heard of: only a list that is complete says that
//! something is gone. While the server is away, what was told stays in force.

mod client;
mod follow;
mod lines;
mod node_status;
mod pulse;
mod renewal;
mod told;
mod watch;
mod watched;
mod wire;

pub use client::Access;
pub use watched::used_verbs;

use crate::change::News;
use crate::liveness::Liveness;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use thiserror::Error;
use tokio::sync::{Notify, watch as state};

/// Why an API server cannot be followed at all. That it does not answer is no reason: it is asked again.
#[derive(Debug, Error)]
pub enum KubernetesError {
    /// The kubeconfig file cannot be used.
    #[error("source.kubernetes.kubeconfig {}: {reason}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no service account to be found.
    #[error("source.kubernetes: no kubeconfig is given, and this is no pod of a cluster: {reason}")]
    InCluster {
        /// What is wrong.
        reason: String,
    },
    /// The credentials do not make a client.
    #[error("source.kubernetes: server {server}: {reason}")]
    Client {
        /// The server.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no thread for it.
    #[error("no thread to follow the API server: {0}")]
    Thread(#[from] std::io::Error),
}

/// Follows an API server until it is dropped.
#[derive(Debug)]
pub struct KubernetesSource {
    stop: Arc<Notify>,
    serving: state::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the cluster that the node has a network; may be called from any thread.
#[derive(Clone, Debug)]
pub struct Announcer(state::Sender<bool>);

impl Announcer {
    /// The node serves: from now on its condition `NetworkUnavailable` is made false whenever it is not.
    pub fn announce(&self) {
        self.0.send_replace(true);
    }
}

impl KubernetesSource {
    /// Starts to follow the server. What is there is told first, then, once every kind has been listed as a whole,
    /// [`Change::Synced`](crate::Change::Synced), then what changes. It ends by itself when nobody listens any more.
    pub fn try_new(
        access: &Access,
        node: &str,
        liveness: &Liveness,
        changes: Sender<News>,
    ) -> Result<Self, KubernetesError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (renewal, server) = runtime.block_on(renewal::Renewal::try_new(access))?;
        liveness.follow(&server);
        let (stop, serving) = (Arc::new(Notify::new()), state::Sender::new(false));
        let (stopped, serves) = (Arc::clone(&stop), serving.subscribe());
        let (node, liveness) = (node.to_owned(), liveness.clone());
        let thread = std::thread::Builder::new().name("kubernetes".to_owned()).spawn(move || {
            runtime.block_on(async {
                let own = node_status::OwnNode::new(&node);
                let announced = node_status::announce(renewal.client(), node.clone(), serves, own.seen());
                tokio::select! {
                    () = stopped.notified() => {}
                    () = follow::follow(&renewal, &node, &server, own, liveness, changes) => {}
                    never = announced => match never {},
                }
            });
            // What still hangs in a connection must not keep the daemon from ending.
            runtime.shutdown_background();
        })?;
        Ok(KubernetesSource { stop, serving, thread: Some(thread) })
    }

    /// What tells the cluster that the node serves.
    pub fn announcer(&self) -> Announcer {
        Announcer(self.serving.clone())
    }
}

impl Drop for KubernetesSource {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
