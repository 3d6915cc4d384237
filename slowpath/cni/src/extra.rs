//! `CNI_ARGS`: what a runtime says about one container, as `KEY=value;KEY=value`.

use crate::config::address;
use millrace_api::PodIdentity;
use millrace_config::MacAddr;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// What `CNI_ARGS` tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Extra {
    /// `K8S_POD_NAMESPACE`, `K8S_POD_NAME` and `K8S_POD_UID`, if the first two are there.
    pub(crate) pod: Option<PodIdentity>,
    /// `IP`: the address that the container is to have.
    pub(crate) ip: Option<IpAddr>,
    /// `MAC`: the MAC address that it is to have.
    pub(crate) mac: Option<MacAddr>,
}

/// What is wrong in them.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum InvalidExtra {
    #[error("`{0}` is not of the form KEY=value")]
    Pair(String),
    #[error("IgnoreUnknown is neither true nor false but `{0}`")]
    Bool(String),
    #[error("{key}={value}: {reason}")]
    Value { key: &'static str, value: String, reason: String },
    #[error("unknown keys without IgnoreUnknown=1: {0}")]
    Unknown(String),
}

impl FromStr for Extra {
    type Err = InvalidExtra;
    fn from_str(text: &str) -> Result<Self, InvalidExtra> {
        let mut extra = Extra::default();
        let (mut namespace, mut name, mut uid) = (None, None, None);
        let (mut ignores_unknown, mut unknown) = (false, Vec::new());
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| InvalidExtra::Pair(pair.to_owned()))?;
            match key {
                "K8S_POD_NAMESPACE" => namespace = filled(value),
                "K8S_POD_NAME" => name = filled(value),
                "K8S_POD_UID" => uid = filled(value),
                // The container that keeps the pod's namespace is the one that CNI_CONTAINERID names.
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IP" => {
                    let wrong = |reason| InvalidExtra::Value { key: "IP", value: value.to_owned(), reason };
                    extra.ip = filled(value).map(|ip| address(&ip)).transpose().map_err(wrong)?;
                }
                "MAC" => {
                    let mac = filled(value).map(|mac| mac.parse()).transpose();
                    extra.mac = mac.map_err(|reason: millrace_config::InvalidValue| InvalidExtra::Value {
                        key: "MAC",
                        value: value.to_owned(),
                        reason: reason.to_string(),
                    })?;
                }
                "IgnoreUnknown" => ignores_unknown = truth(value)?,
                other => unknown.push(other),
            }
        }
        if !unknown.is_empty() && !ignores_unknown {
            return Err(InvalidExtra::Unknown(unknown.join(", ")));
        }
        extra.pod = namespace.zip(name).map(|(namespace, name)| PodIdentity { namespace, name, uid });
        Ok(extra)
    }
}

fn filled(value: &str) -> Option<String> {
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

fn truth(value: &str) -> Result<bool, InvalidExtra> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(InvalidExtra::Bool(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_by_its_keys() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=0123;K8S_POD_UID=6a-b;OTHER=x";
        let pod = PodIdentity { namespace: "default".into(), name: "web-0".into(), uid: Some("6a-b".into()) };
        assert_eq!(text.parse::<Extra>().unwrap(), Extra { pod: Some(pod), ..Extra::default() });
    }

    #[test]
    fn an_address_and_a_mac_can_be_asked_for() {
        let extra: Extra = "IP=10.0.0.9/24;MAC=02:00:00:00:00:09".parse().unwrap();
        assert_eq!(extra.ip, Some("10.0.0.9".parse().unwrap()));
        assert_eq!(extra.mac, Some("02:00:00:00:00:09".parse().unwrap()));
    }

    #[test]
    fn nothing_is_nothing() {
        for text in
            ["", ";", "IgnoreUnknown=False", "K8S_POD_NAME=;K8S_POD_NAMESPACE=", "K8S_POD_NAME=a", "IP="]
        {
            assert_eq!(text.parse::<Extra>().unwrap(), Extra::default(), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_an_error_unless_they_are_to_be_ignored() {
        let error = "FOO=1;BAR=2;IgnoreUnknown=0".parse::<Extra>().unwrap_err();
        assert_eq!(error, InvalidExtra::Unknown("FOO, BAR".into()));
        assert!("FOO=1;BAR=2;IgnoreUnknown=TRUE".parse::<Extra>().is_ok());
    }

    #[test]
    fn wrong_values_are_named() {
        for (text, named) in [
            ("FOO", "`FOO`"),
            ("IgnoreUnknown=maybe", "`maybe`"),
            ("IP=10.0.0.300", "10.0.0.300"),
            ("MAC=01:00:00:00:00:00", "01:00:00:00:00:00"),
        ] {
            let message = text.parse::<Extra>().unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
