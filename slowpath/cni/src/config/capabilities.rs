//! `runtimeConfig`: what the runtime adds for one container (CONVENTIONS.md of the CNI project).

use super::{address, decoded, nullable};
use crate::error::CniError;
use crate::result::Dns;
use millrace_api::{Bandwidth, HostPort, Protocol};
use millrace_config::MacAddr;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// The capabilities that we have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Capabilities {
    /// `portMappings`.
    pub(crate) host_ports: Vec<HostPort>,
    /// `bandwidth`; `None` without any limit.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// `ips`.
    pub(crate) ips: Vec<IpAddr>,
    /// `mac`.
    pub(crate) mac: Option<MacAddr>,
    /// `dns`.
    pub(crate) dns: Dns,
}

/// All names are in small letters here: containerd writes `HostPort` where the conventions have `hostPort`, and
/// the Go library does not tell them apart.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCapabilities {
    #[serde(deserialize_with = "nullable")]
    portmappings: Vec<RawMapping>,
    bandwidth: Option<RawBandwidth>,
    #[serde(deserialize_with = "nullable")]
    ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    mac: String,
    #[serde(deserialize_with = "nullable")]
    dns: RawDns,
    ipranges: Option<Value>,
    deviceid: Option<Value>,
    infinibandguid: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMapping {
    hostport: u16,
    containerport: u16,
    #[serde(deserialize_with = "nullable")]
    protocol: String,
    #[serde(deserialize_with = "nullable")]
    hostip: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawBandwidth {
    ingressrate: Option<u64>,
    ingressburst: Option<u64>,
    egressrate: Option<u64>,
    egressburst: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDns {
    #[serde(deserialize_with = "nullable")]
    servers: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    searches: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    options: Vec<String>,
}

impl Capabilities {
    /// Reads `runtimeConfig`. A capability that needs an act of ours that we do not know is an error, as the
    /// conventions ask for: the runtime only sends what the configuration declares.
    pub(super) fn read(value: Value, addresses_are_delegated: bool) -> Result<Self, CniError> {
        let raw: RawCapabilities = decoded("runtimeConfig", &in_small_letters(value))?;
        raw.refuse_foreign(addresses_are_delegated)?;
        let host_ports = raw.portmappings.into_iter().enumerate().filter_map(host_port);
        let ips = raw.ips.iter().enumerate().map(|(at, ip)| {
            address(ip).map_err(|reason| CniError::config(format!("runtimeConfig.ips[{at}]"), reason))
        });
        Ok(Capabilities {
            host_ports: host_ports.collect::<Result<_, _>>()?,
            bandwidth: raw.bandwidth.and_then(RawBandwidth::limits),
            ips: ips.collect::<Result<_, _>>()?,
            mac: mac(&raw.mac)?,
            dns: Dns {
                nameservers: raw.dns.servers,
                search: raw.dns.searches,
                options: raw.dns.options,
                ..Dns::default()
            },
        })
    }
}

impl RawCapabilities {
    fn refuse_foreign(&self, addresses_are_delegated: bool) -> Result<(), CniError> {
        let ranges = self.ipranges.as_ref().filter(|_| !addresses_are_delegated);
        let foreign = [
            ("ipRanges", ranges, "addresses come from the node's ranges"),
            ("deviceID", self.deviceid.as_ref(), "a container is not given a device"),
            (
                "infinibandGUID",
                self.infinibandguid.as_ref(),
                "a container's interface is an Ethernet interface",
            ),
        ];
        match foreign.into_iter().find_map(|(key, value, reason)| Some((key, value?, reason))) {
            Some((key, value, reason)) => Err(CniError::UnsupportedField {
                key: format!("runtimeConfig.{key}"),
                value: value.to_string(),
                reason,
            }),
            None => Ok(()),
        }
    }
}

impl RawBandwidth {
    /// The limits; 0 is how runtimes write "none".
    fn limits(self) -> Option<Bandwidth> {
        let limit = |rate: Option<u64>| rate.filter(|rate| *rate > 0);
        let (ingress_rate, egress_rate) = (limit(self.ingressrate), limit(self.egressrate));
        let bandwidth = Bandwidth {
            ingress_rate,
            ingress_burst: ingress_rate.and(limit(self.ingressburst)),
            egress_rate,
            egress_burst: egress_rate.and(limit(self.egressburst)),
        };
        (bandwidth != Bandwidth::default()).then_some(bandwidth)
    }
}

/// `None` for a mapping without a port of the node: a container's port that is only told.
fn host_port((at, raw): (usize, RawMapping)) -> Option<Result<HostPort, CniError>> {
    (raw.hostport != 0).then(|| {
        let wrong = |field: &str, reason: String| {
            CniError::config(format!("runtimeConfig.portMappings[{at}].{field}"), reason)
        };
        let host_ip = match raw.hostip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| wrong("hostIP", format!("`{text}` is not an address")))?),
        };
        if raw.containerport == 0 {
            return Err(wrong("containerPort", "0 is not a port".to_owned()));
        }
        let protocol = match raw.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong("protocol", format!("`{}` is not tcp, udp or sctp", raw.protocol))),
        };
        Ok(HostPort { host_ip, host_port: raw.hostport, container_port: raw.containerport, protocol })
    })
}

fn mac(text: &str) -> Result<Option<MacAddr>, CniError> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|reason: millrace_config::InvalidValue| CniError::config("runtimeConfig.mac", reason)),
    }
}

/// The same value with the keys of all its objects in small letters.
fn in_small_letters(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let small = |(key, value): (String, Value)| (key.to_lowercase(), in_small_letters(value));
            Value::Object(fields.into_iter().map(small).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(in_small_letters).collect()),
        other => other,
    }
}
