//! Services that this node does not serve.

use crate::model::Model;
use crate::object::{ObjectName, Service, ServiceType};
use std::fmt;

/// The label by which a service asks for another proxy; its value names that proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// A service without a frontend on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExcludedService {
    /// Its name.
    pub name: ObjectName,
    /// Why it has none.
    pub reason: Exclusion,
}

/// Why a service is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exclusion {
    /// It has no ClusterIP: clients find its endpoints by DNS.
    Headless,
    /// It is an alias in DNS.
    ExternalName,
    /// Its label says that another proxy serves it.
    OtherProxy {
        /// The label's value.
        proxy: String,
    },
}

impl Exclusion {
    fn of(service: &Service) -> Option<Exclusion> {
        if service.kind == ServiceType::ExternalName {
            Some(Exclusion::ExternalName)
        } else if service.foreign_proxy {
            let proxy = service.labels.get(PROXY_NAME).cloned().unwrap_or_default();
            Some(Exclusion::OtherProxy { proxy })
        } else {
            service.cluster_ips.is_empty().then_some(Exclusion::Headless)
        }
    }

    /// A short name that does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            Exclusion::Headless => "Headless",
            Exclusion::ExternalName => "ExternalName",
            Exclusion::OtherProxy { .. } => "OtherProxy",
        }
    }
}

impl fmt::Display for Exclusion {
    /// One sentence without a full stop.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::Headless => out.write_str("it is headless: it has no ClusterIP"),
            Exclusion::ExternalName => out.write_str("it is of type ExternalName: an alias in DNS"),
            Exclusion::OtherProxy { proxy } => write!(out, "its label {PROXY_NAME} names proxy `{proxy}`"),
        }
    }
}

impl Service {
    /// Whether this node serves it at all.
    pub fn is_served(&self) -> bool {
        Exclusion::of(self).is_none()
    }
}

impl Model {
    /// Services without a frontend on this node.
    pub fn excluded(&self) -> impl Iterator<Item = ExcludedService> + '_ {
        self.services.services.values().filter_map(excluded)
    }

    /// Why a service has no frontend on this node; nothing if it has, or does not exist.
    pub fn exclusion(&self, name: &ObjectName) -> Option<Exclusion> {
        Exclusion::of(self.services.services.get(name)?)
    }
}

fn excluded(service: &Service) -> Option<ExcludedService> {
    Some(ExcludedService { name: service.name.clone(), reason: Exclusion::of(service)? })
}
