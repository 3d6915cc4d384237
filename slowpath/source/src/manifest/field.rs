//! Single fields.

use ipnet::IpNet;
use millrace_model::Transport;
use std::net::IpAddr;
use thiserror::Error;

/// A field with an illegal value.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field}: `{value}` is not {expected}")]
pub struct FieldError {
    /// Path of the field, as in `spec.ports[1].port`.
    pub field: String,
    /// The value.
    pub value: String,
    /// What the field wants.
    pub expected: &'static str,
}

pub(super) fn wrong(field: impl Into<String>, value: impl ToString, expected: &'static str) -> FieldError {
    FieldError { field: field.into(), value: value.to_string(), expected }
}

/// The address of one host, in plain form. Here and below, a field's path is made only if it is to be told.
pub(super) fn address(field: impl Fn() -> String, text: &str) -> Result<IpAddr, FieldError> {
    let Some(address) = parsed(text) else { return Err(wrong(field(), text, "an IP address")) };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(wrong(field(), text, "the IP address of a host"));
    }
    Ok(address)
}

/// An address as the cluster has accepted it: IPv4 may have zeros before its numbers, which are decimal all the same (upstream's
/// `ParseIPSloppy`; CVE-2021-29923).
fn parsed(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u8>().ok().filter(|_| digits)
    };
    let numbers: Vec<u8> = text.split('.').map(number).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(numbers).ok().map(IpAddr::from)
}

/// At most one address a family.
pub(super) fn one_a_family(field: &str, addresses: &[IpAddr]) -> Result<(), FieldError> {
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            return Err(wrong(format!("{field}[{index}]"), address, "the only address of its family"));
        }
    }
    Ok(())
}

/// A range of addresses; spaces around it and host bits are tolerated, as upstream does it.
pub(super) fn range(field: impl Fn() -> String, text: &str) -> Result<IpNet, FieldError> {
    let net = text.trim().split_once('/').and_then(|(address, length)| {
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        IpNet::new(parsed(address)?, length.parse().ok().filter(|_| digits)?).ok()
    });
    net.map(|net| net.trunc()).ok_or_else(|| wrong(field(), text, "a CIDR range"))
}

/// A port number.
pub(super) fn port(field: impl Fn() -> String, number: i32) -> Result<u16, FieldError> {
    u16::try_from(number).ok().filter(|&port| port > 0).ok_or_else(|| wrong(field(), number, "in 1..=65535"))
}

/// A protocol; TCP if absent.
pub(super) fn protocol(field: impl Fn() -> String, text: Option<&str>) -> Result<Transport, FieldError> {
    match text {
        None | Some("TCP") => Ok(Transport::Tcp),
        Some("UDP") => Ok(Transport::Udp),
        Some("SCTP") => Ok(Transport::Sctp),
        Some(other) => Err(wrong(field(), other, "one of TCP, UDP, SCTP")),
    }
}
