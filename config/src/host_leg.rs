//! The host's own leg into the pods' network.

use crate::error::InvalidValue;
use crate::names::InterfaceName;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// The interface by which processes of the host reach pods and services, and are reached by pods.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostLeg {
    /// There is none.
    None,
    /// A TAP of this name in the daemon's own network namespace, made as soon as it is known what to route to it.
    Interface(InterfaceName),
}

/// The interface's name unless told otherwise.
const INTERFACE: &str = "millrace0";

impl HostLeg {
    /// The interface, if there is to be one.
    pub const fn interface(&self) -> Option<&InterfaceName> {
        match self {
            HostLeg::None => None,
            HostLeg::Interface(interface) => Some(interface),
        }
    }
}

impl Default for HostLeg {
    fn default() -> Self {
        INTERFACE.parse().map_or(HostLeg::None, HostLeg::Interface)
    }
}

/// The form of a map.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Fields {
    interface: Option<InterfaceName>,
}

impl<'de> Deserialize<'de> for HostLeg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms)
    }
}

/// `none`, or a map.
struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = HostLeg;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("`none`, or a map as in {interface: millrace0}")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<HostLeg, E> {
        match value {
            "none" => Ok(HostLeg::None),
            _ => Err(E::custom(InvalidValue::Form {
                value: value.to_owned(),
                expected: "`none`, or a map as in {interface: millrace0}",
            })),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostLeg, A::Error> {
        let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(fields.interface.map_or_else(HostLeg::default, HostLeg::Interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HostLeg, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_none_or_an_interface() {
        assert_eq!(read(r#""none""#), Ok(HostLeg::None));
        assert_eq!(read("{}"), Ok(HostLeg::default()));
        assert_eq!(HostLeg::default().interface().unwrap().as_str(), "millrace0");
        let other = read(r#"{"interface": "pods0"}"#).unwrap();
        assert_eq!(other.interface().unwrap().as_str(), "pods0");
    }

    #[test]
    fn whatever_else_it_says_is_refused_by_name() {
        for (text, word) in [
            (r#""off""#, "off"),
            (r#"{"interface": "much-too-long-for-a-name"}"#, "much-too-long"),
            (r#"{"address": "192.0.2.1"}"#, "address"),
            ("7", "7"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
