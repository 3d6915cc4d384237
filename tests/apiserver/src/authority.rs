//! Who vouches for servers and clients: a certificate authority of a test's own.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

/// The names that API servers have in every cluster, and those under which tests reach them.
const NAMES: [&str; 3] = ["kubernetes.default.svc", "localhost", "127.0.0.1"];

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate and key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
    /// The certificate as it comes over the wire.
    pub(crate) wire: Vec<u8>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn try_new() -> Result<Self, Box<dyn Error>> {
        let mut params = named("tests' authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, as PEM: what `certificate-authority` or `ca.crt` is.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a client of this name.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn identity(&self, name: &str) -> Result<Identity, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let certificate = named(name, &[])?.signed_by(&key, &self.0)?;
        let wire = certificate.der().to_vec();
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem(), wire })
    }

    /// What a server speaks TLS with: its own certificate, and clients' ones if they show any that are from here.
    pub(crate) fn server(&self, address: IpAddr) -> Result<ServerConfig, Box<dyn Error>> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate()?;
        let own = address.to_string();
        let names: Vec<&str> = NAMES.into_iter().chain([own.as_str()]).collect();
        let certificate = named("kube-apiserver", &names)?.signed_by(&key, &self.0)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_client_cert_verifier(clients);
        Ok(config.with_single_cert(vec![certificate.der().clone()], key)?)
    }
}

fn named(name: &str, others: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let others: Vec<String> = others.iter().map(|other| (*other).to_owned()).collect();
    let mut params = CertificateParams::new(others)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
