//! Who to ask, and as whom.

use super::KubernetesError;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection may take, and how long the server may take to take a request.
const CONNECT: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);

/// Where the kubelet puts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where a pod of the cluster is told of the API server.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// A kubeconfig file; without one, what a pod finds in itself (environment, service account's token and certificate).
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file, if it is not the current one.
    pub context: Option<String>,
    /// The server's URL, if it is not the one that the file or the environment names.
    pub server: Option<String>,
    /// Where the service account's files are, which count without a kubeconfig.
    pub service_account: PathBuf,
}

impl Default for Access {
    fn default() -> Self {
        Access { kubeconfig: None, context: None, server: None, service_account: SERVICE_ACCOUNT.into() }
    }
}

/// Who to ask and as whom, as files said it at one time.
pub(super) struct Credentials {
    /// What a client is made of.
    pub(super) config: Config,
    /// The files that it is from.
    pub(super) files: Vec<PathBuf>,
}

impl Credentials {
    /// Reads them.
    pub(super) async fn read(access: &Access) -> Result<Self, KubernetesError> {
        let mut read = match &access.kubeconfig {
            Some(file) => of_kubeconfig(file, access.context.clone()).await?,
            None => of_service_account(access)?,
        };
        if let Some(server) = &access.server {
            read.config.cluster_url = url(server)?;
        }
        (read.config.connect_timeout, read.config.write_timeout) = (Some(CONNECT), Some(WRITE));
        Ok(read)
    }

    /// A number that differs when the files that they are from have another content. A file that cannot be read counts as
    /// one without any.
    pub(super) fn print(files: &[PathBuf]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in files {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The server's address for people.
    pub(super) fn server(&self) -> String {
        self.config.cluster_url.to_string().trim_end_matches('/').to_owned()
    }
}

async fn of_kubeconfig(file: &Path, context: Option<String>) -> Result<Credentials, KubernetesError> {
    let wrong = |reason: String| KubernetesError::Kubeconfig { file: file.to_owned(), reason };
    let text = Kubeconfig::read_from(file).map_err(|error| match error {
        // Without the text around it, which may be a secret.
        KubeconfigError::Parse(error) => wrong(format!("no kubeconfig: {}", error.without_snippet())),
        error => wrong(chain(&error)),
    })?;
    let authorities = text.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let authorities = authorities.filter_map(|cluster| cluster.certificate_authority.clone());
    let mut files: Vec<PathBuf> =
        std::iter::once(file.to_owned()).chain(authorities.map(PathBuf::from)).collect();
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let read = Config::from_custom_kubeconfig(text, &options).await;
    let mut config = read.map_err(|error| wrong(chain(&error)))?;
    let AuthInfo { token, token_file, client_certificate, client_key, .. } = &mut config.auth_info;
    let others = [&*token_file, &*client_certificate, &*client_key].into_iter().flatten();
    files.extend(others.map(PathBuf::from));
    // One in the kubeconfig itself goes before.
    if let (None, Some(file)) = (&token, token_file.take()) {
        let text = std::fs::read_to_string(&file).map_err(|error| wrong(format!("{file}: {error}")))?;
        *token = bearer(&text).token;
    }
    Ok(Credentials { config, files })
}

/// Who has this token. The library would keep what it reads of a file for a minute, and takes a line's end for a part of
/// the token.
fn bearer(token: &str) -> AuthInfo {
    serde_json::from_value(json!({"token": token.trim()})).unwrap_or_default()
}

/// As any pod finds its server: <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>.
fn of_service_account(access: &Access) -> Result<Credentials, KubernetesError> {
    let wrong = |reason: String| KubernetesError::InCluster { reason };
    let [token, authority] = ["token", "ca.crt"].map(|name| access.service_account.join(name));
    let failed = |file: &Path, error: &dyn std::fmt::Display| wrong(format!("{}: {error}", file.display()));
    let address = match &access.server {
        Some(server) => server.clone(),
        None => {
            let variable = |name| std::env::var(name).map_err(|error| wrong(format!("{name}: {error}")));
            in_url(&variable(HOST)?, &variable(PORT)?)
        }
    };
    let pem = std::fs::read(&authority).map_err(|error| failed(&authority, &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| failed(&authority, &error))?;
    if certificates.is_empty() {
        return Err(failed(&authority, &"there is no certificate in it"));
    }
    let text = std::fs::read_to_string(&token).map_err(|error| failed(&token, &error))?;
    let server = url(&address)?;
    if server.scheme_str() != Some("https") && !is_loopback(&server) {
        return Err(wrong(format!("{address}: the service account's token is sent by https only")));
    }
    let mut config = Config::new(server);
    config.root_cert = Some(certificates.iter().map(|certificate| certificate.to_vec()).collect());
    config.auth_info = bearer(&text);
    Ok(Credentials { config, files: vec![token, authority] })
}

/// Host and port as a URL: an IPv6 address stands in brackets there.
fn in_url(host: &str, port: &str) -> String {
    if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
}

fn url(text: &str) -> Result<http::Uri, KubernetesError> {
    let wrong = |reason| KubernetesError::Client { server: text.to_owned(), reason };
    let url: http::Uri = text.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    if url.scheme().is_none() || url.authority().is_none() {
        return Err(wrong("this is no URL of a server".to_owned()));
    }
    Ok(url)
}

/// Whether what is sent there stays on this machine.
fn is_loopback(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_of_the_environment_is_bracketed() {
        assert_eq!(in_url("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(in_url("fd00:96::1", "443"), "https://[fd00:96::1]:443");
    }
}
