//! Who to ask, and as whom.

use super::KubernetesError;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take, and how long the server may take to take a request.
const CONNECT: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// A kubeconfig file; without one, what a pod finds in itself (environment, service account's token and certificate).
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file, if it is not the current one.
    pub context: Option<String>,
}

/// A client, and the server's address for people. Tokens and certificates in files are read again when they change, as
/// often as a minute.
pub(super) async fn client(access: &Access) -> Result<(Client, String), KubernetesError> {
    // Two crates may bring a provider each, and then none is the default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = match &access.kubeconfig {
        Some(file) => {
            let wrong = |reason: String| KubernetesError::Kubeconfig { file: file.clone(), reason };
            let text = Kubeconfig::read_from(file).map_err(|error| wrong(chain(&error)))?;
            let options =
                KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
            let read = Config::from_custom_kubeconfig(text, &options).await;
            read.map_err(|error| wrong(chain(&error)))?
        }
        None => Config::incluster().map_err(|error| KubernetesError::InCluster { reason: chain(&error) })?,
    };
    (config.connect_timeout, config.write_timeout) = (Some(CONNECT), Some(WRITE));
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let failed =
        |error: kube::Error| KubernetesError::Client { server: server.clone(), reason: chain(&error) };
    let client = Client::try_from(config).map_err(failed)?;
    Ok((client, server))
}

/// An error and its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
