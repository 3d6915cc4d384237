//! The network configuration on standard input.
//!
//! It is read in two steps: what every verb needs, and what only `ADD` needs ([`Wishes`]). So a deletion does not
//! fail because of a field that has nothing to do with it.

mod capabilities;
mod wishes;

pub(crate) use wishes::Wishes;

use crate::arguments::Environment;
use crate::delegate::Delegate;
use crate::error::CniError;
use crate::result::{Dns, NetworkResult};
use crate::version::Version;
use millrace_api::{AttachmentId, DEFAULT_SOCKET, is_cni_name};
use millrace_config::Config;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The type of our own address management.
const OWN_IPAM: &str = "millrace";
/// How long the daemon is waited for, unless the configuration says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// The longest that the daemon is waited for, in seconds: runtimes give up themselves after some minutes.
const MAX_WAIT: u64 = 300;

/// A checked network configuration.
#[derive(Debug)]
pub(crate) struct NetworkConfig {
    /// The name of the network.
    pub(crate) name: String,
    /// Where the daemon listens.
    pub(crate) socket: PathBuf,
    /// Where the daemon keeps its state.
    pub(crate) state_directory: PathBuf,
    /// How long to wait for the daemon.
    pub(crate) wait: Duration,
    /// Who gives addresses, if it is not the daemon.
    pub(crate) delegate: Option<Delegate>,
    /// A map.
    fields: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    socket: Option<PathBuf>,
    state_directory: Option<PathBuf>,
    wait_seconds: Option<u64>,
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    plugin: String,
    #[serde(default, deserialize_with = "nullable")]
    ipam: RawIpam,
}

/// The `ipam` section, as far as it is ours.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIpam {
    #[serde(rename = "type", deserialize_with = "nullable")]
    plugin: String,
}

/// `cniVersion` of an input, checked. Without one it is 0.1.0, as in the Go library.
pub(crate) fn version_of(input: &[u8]) -> Result<Version, CniError> {
    Ok(stated_version(input)?.as_deref().unwrap_or("0.1.0").parse::<Version>()?)
}

/// `cniVersion` of an input, as it is written.
pub(crate) fn stated_version(input: &[u8]) -> Result<Option<String>, CniError> {
    #[derive(Deserialize)]
    struct Stated {
        #[serde(rename = "cniVersion")]
        version: Option<String>,
    }
    serde_json::from_slice::<Stated>(input)
        .map(|stated| stated.version.filter(|version| !version.is_empty()))
        .map_err(CniError::Json)
}

impl NetworkConfig {
    /// Reads what every verb needs.
    pub(crate) fn read(input: Vec<u8>, environment: &Environment) -> Result<Self, CniError> {
        let fields: Map<String, Value> = serde_json::from_slice(&input).map_err(CniError::Json)?;
        let fields = Value::Object(fields);
        let raw: RawConfig = decoded("", &fields)?;
        check_name(&raw.name)?;
        let wait = match raw.wait_seconds {
            None => DEFAULT_WAIT,
            Some(seconds) if seconds <= MAX_WAIT => Duration::from_secs(seconds),
            Some(seconds) => {
                let reason = format!("{seconds} seconds are more than {MAX_WAIT}");
                return Err(CniError::config("waitSeconds", reason));
            }
        };
        let is_own = ["", OWN_IPAM, raw.plugin.as_str()].contains(&raw.ipam.plugin.as_str());
        let delegate = if is_own { None } else { Some(Delegate::new(raw.ipam.plugin, environment, input)?) };
        Ok(NetworkConfig {
            name: raw.name,
            socket: absolute("socket", raw.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()))?,
            state_directory: absolute(
                "stateDirectory",
                raw.state_directory.unwrap_or_else(|| Config::default().state_directory),
            )?,
            wait,
            delegate,
            fields,
        })
    }

    /// A field that not every verb needs; `None` if it is missing or `null`.
    fn field<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CniError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => decoded(name, value).map(Some),
        }
    }

    /// The result of the plugins before us, or for `CHECK` that of the whole `ADD`.
    pub(crate) fn previous(&self) -> Result<Option<NetworkResult>, CniError> {
        self.field("prevResult")
    }

    /// `dns`.
    fn dns(&self) -> Result<Dns, CniError> {
        Ok(self.field("dns")?.unwrap_or_default())
    }

    /// The attachments that `GC` must leave. Those whose names we would never have accepted are left out: nothing
    /// of ours is called so.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<AttachmentId>, CniError> {
        #[derive(Deserialize)]
        struct Valid {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        // Releases of the Go library before the one that follows the specification say the second.
        const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let key = KEYS.into_iter().find(|key| self.fields.get(*key).is_some()).ok_or_else(|| {
            CniError::config(KEYS[0], "it is missing; without it every attachment would be garbage")
        })?;
        // An empty list of Go is written as null.
        let valid: Vec<Valid> = self.field(key)?.unwrap_or_default();
        let id = |valid: Valid| {
            let container_id = valid.container_id.parse().ok()?;
            Some(AttachmentId { container_id, if_name: valid.ifname.parse().ok()? })
        };
        Ok(valid.into_iter().filter_map(id).collect())
    }
}

/// Section 1 of the specification: a name is like a container id.
fn check_name(name: &str) -> Result<(), CniError> {
    if is_cni_name(name) {
        return Ok(());
    }
    if name.is_empty() {
        return Err(CniError::config("name", "the network has none"));
    }
    let reason = format!(
        "`{name}` is not a network's name: letters, digits, `_`, `.` and `-`, first a letter or digit"
    );
    Err(CniError::config("name", reason))
}

fn absolute(field: &str, path: PathBuf) -> Result<PathBuf, CniError> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(CniError::config(field, format!("`{}` is not an absolute path", path.display())))
    }
}

/// Reads a value; the error names the field inside of `name`.
fn decoded<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, CniError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let separator = if name.is_empty() || inner.is_empty() || inner.starts_with('[') { "" } else { "." };
        CniError::config(format!("{name}{separator}{inner}"), error.inner())
    })
}

/// An address, with or without a prefix length, which is of no meaning here: a container is alone on its link.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let wrong = || format!("`{text}` is not an address, as in 10.0.0.9 or fd00::9/64");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => Ok(address),
        Some(Ok(length)) if length <= most => Ok(address),
        Some(_) => Err(wrong()),
    }
}

/// What Go leaves out or writes as `null` is empty.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
