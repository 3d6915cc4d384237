//! Names: of nodes, ports, pods, interfaces, network namespaces.

use crate::error::InvalidValue;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Gives a checked string type its conversions. `$check` says whether a string is legal.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;
            fn try_from(value: String) -> Result<Self, InvalidValue> {
                let legal: fn(&str) -> bool = $check;
                if legal(&value) { Ok($name(value)) } else { Err(InvalidValue::Form { value, expected: $expected }) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;
            fn from_str(value: &str) -> Result<Self, InvalidValue> {
                value.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

checked_name! {
    /// The node's name in the cluster: a DNS-1123 subdomain.
    NodeName, "a node name: lower-case letters, digits, `-` and `.`, at most 253", is_dns_subdomain
}

checked_name! {
    /// The name of a port on this node, as the configuration and the command line use it.
    PortName, "a port name: letters, digits, `.`, `_` and `-`, at most 63, first a letter or digit", is_port_name
}

checked_name! {
    /// The name of a network interface, as the kernel allows it: at most 15 bytes.
    InterfaceName, "an interface name: 1 to 15 bytes, no `/`, `:` or white space", is_interface_name
}

checked_name! {
    /// The prefix of DPDK's run-time files; processes with different prefixes do not see each other.
    FilePrefix, "a file prefix: letters, digits, `_` and `-`, at most 32", is_file_prefix
}

checked_name! {
    /// A network namespace: a name below `/run/netns`, or the absolute path of a namespace file.
    Netns, "a network namespace: a name or an absolute path", is_netns
}

checked_name! {
    /// The URL of an API server.
    ServerUrl, "a server's URL: https:// (or http://), a name or address (IPv6 in brackets), and perhaps a port and a path",
    is_server_url
}

impl Netns {
    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        // `join` with an absolute path yields that path.
        PathBuf::from("/run/netns").join(&self.0)
    }
}

/// A pod, written `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodRef {
    namespace: String,
    name: String,
}

impl PodRef {
    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for PodRef {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        match value.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_dns_subdomain(name) => {
                Ok(PodRef { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidValue::Form { value: value.to_owned(), expected: "a pod: `namespace/name`" }),
        }
    }
}

impl TryFrom<String> for PodRef {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl From<PodRef> for String {
    fn from(pod: PodRef) -> String {
        pod.to_string()
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// RFC 1123, as Kubernetes reads it: the name of a namespace.
fn is_dns_label(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(legal)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Labels joined by dots: the name of a node or pod.
fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

fn is_port_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(legal)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// The rules of `dev_valid_name` in the kernel's net/core/dev.c.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace())
}

fn is_file_prefix(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// No user, query or fragment: credentials have their own places, and the others mean nothing to an API server.
fn is_server_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return false;
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, port.strip_prefix(':').or(Some(""))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => host.parse::<std::net::Ipv4Addr>().is_ok() || is_dns_subdomain(&host.to_lowercase()),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
    is_host && port.is_none_or(is_port) && path.bytes().all(legal)
}

fn is_netns(name: &str) -> bool {
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    (plain || (name.starts_with('/') && name.len() > 1)) && !name.contains('\0') && name.len() <= 4096
}
