//! Reading the configuration file.

use crate::address::Prefix;
use crate::error::{ConfigError, Conflict};
use crate::names::{InterfaceName, PortName};
use crate::node::{Config, Source};
use crate::services::PortRange;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// Where the configuration is unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/millrace/millrace.yaml";

/// Reads and checks a configuration file. Relative paths of the source are taken from the directory of the file.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    let mut config = parse(file, &text)?;
    let path = match &mut config.source {
        Source::Directory(directory) => Some(directory),
        Source::Kubernetes(kubernetes) => kubernetes.kubeconfig.as_mut(),
    };
    // A sample or a test keeps its manifests beside its configuration, wherever that lies.
    if let (Some(path), Some(beside)) = (path.filter(|path| path.is_relative()), file.parent()) {
        *path = beside.join(&*path);
    }
    Ok(config)
}

/// Checks the text of a configuration; `file` is named in errors only.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    // A file of comments alone has no document in it: everything is as by default.
    let blank =
        text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---");
    let config = if blank { Config::default() } else { deserialize(file, text)? };
    check(&config).map_err(|conflict| ConfigError::Conflict { file: file.to_owned(), conflict })?;
    Ok(config)
}

fn deserialize(file: &Path, text: &str) -> Result<Config, ConfigError> {
    // The path is tracked beside the deserializer: its own errors know lines, not fields.
    let mut field = String::new();
    let outcome = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize::<_, Config>(deserializer).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    });
    outcome.map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let source_line = line.checked_sub(1).and_then(|line| text.lines().nth(usize::try_from(line).ok()?));
        ConfigError::Field {
            file: file.to_owned(),
            line,
            field: if field.is_empty() { ".".to_owned() } else { field },
            reason: one_line(&error.without_snippet().to_string()),
            text: source_line.unwrap_or_default().trim().chars().take(120).collect(),
        }
    })
}

/// The first line of a parser's message, without the place that is told apart.
fn one_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

/// What no single field can know.
fn check(config: &Config) -> Result<(), Conflict> {
    config.cluster.check()?;
    config.cni.check(&config.cluster)?;
    check_uplinks(config)?;
    check_routing(config)?;
    let mut names: BTreeMap<&PortName, usize> = BTreeMap::new();
    let mut addresses: BTreeMap<Prefix, &PortName> = BTreeMap::new();
    let mut places: BTreeMap<String, &PortName> = BTreeMap::new();
    let gateways = [IpAddr::V4(config.gateway.ipv4), IpAddr::V6(config.gateway.ipv6)];
    for (second, port) in config.ports.iter().enumerate() {
        if let Some(first) = names.insert(&port.name, second) {
            return Err(Conflict::PortName { name: port.name.clone(), first, second });
        }
        if let Some(owner) = places.insert(port.place(), &port.name) {
            return Err(Conflict::PortPlace { place: port.place(), owner: owner.clone(), second });
        }
        for &address in &port.addresses {
            if let Some(owner) = addresses.insert(address, &port.name) {
                return Err(Conflict::PortAddress { address, owner: owner.clone(), second });
            }
            // A default route covers the gateway and does not claim it.
            let claims =
                |gateway: &&IpAddr| address.net().prefix_len() > 0 && address.net().contains(*gateway);
            if let Some(&gateway) = gateways.iter().find(claims) {
                return Err(Conflict::GatewayAddress { gateway, address, port: second });
            }
        }
    }
    Ok(())
}

/// Each uplink is a port of its own, with an interface of its own.
fn check_uplinks(config: &Config) -> Result<(), Conflict> {
    let mut interfaces: BTreeMap<&InterfaceName, usize> = BTreeMap::new();
    for (second, uplink) in config.uplinks.iter().enumerate() {
        let interface = &uplink.interface;
        if let Some(first) = interfaces.insert(interface, second) {
            return Err(Conflict::UplinkInterface { interface: interface.clone(), first, second });
        }
        if uplink.takes_nic() && config.host_leg.interface().is_none() {
            return Err(Conflict::NoVoice { uplink: second, interface: interface.clone() });
        }
        // A name that no port can have was refused before.
        let Ok(own) = uplink.port() else { continue };
        for (index, port) in config.ports.iter().enumerate() {
            let name = (port.name == own.name).then(|| port.name.to_string());
            let place = (port.place() == own.place()).then(|| port.place());
            if let Some(value) = name.or(place) {
                return Err(Conflict::UplinkPort { value, uplink: second, port: index });
            }
        }
    }
    Ok(())
}

fn check_routing(config: &Config) -> Result<(), Conflict> {
    let port = config.routing.vxlan.port.get();
    let ranges = [
        ("services.masqueradePorts", config.services.masquerade_ports),
        ("the range of NodePorts,", PortRange::NODE_PORTS),
    ];
    let holds = |range: &PortRange| (range.first()..=range.last()).contains(&port);
    if let Some((field, range)) = ranges.into_iter().find(|(_, range)| holds(range)) {
        return Err(Conflict::TunnelPort { port, field, range });
    }
    let mut prefixes: BTreeMap<Prefix, usize> = BTreeMap::new();
    for (second, route) in config.routing.routes.iter().enumerate() {
        if let Some(first) = prefixes.insert(route.to, second) {
            return Err(Conflict::RouteTwice { to: route.to, first, second });
        }
    }
    Ok(())
}
