//! The arguments of `port add` to a port's configuration.

use crate::arguments::PortArguments;
use millrace_api::PortConfig;
use serde_json::{Map, Value, json};

/// Checks what was given by the rules of the configuration file.
pub(crate) fn config(arguments: &PortArguments) -> Result<PortConfig, serde_json::Error> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| value.clone().map(Value::from);
    set("name", Some(json!(arguments.name)));
    set("kind", Some(json!(arguments.kind)));
    set("netns", text(&arguments.netns));
    set("interface", text(&arguments.interface));
    set("pod", text(&arguments.pod));
    set("role", text(&arguments.role));
    set("mac", text(&arguments.mac));
    set("addresses", Some(json!(arguments.addresses)));
    set("mtu", arguments.mtu.map(Value::from));
    set("spoofCheck", Some(json!(!arguments.no_spoof_check)));
    set("queues", arguments.queues.map(Value::from));
    let vhost = [
        ("socket", arguments.vhost_socket.as_ref().map(|path| json!(path))),
        ("mode", text(&arguments.vhost_mode)),
    ];
    set("vhostUser", section(vhost));
    set("dpdk", section([("devargs", text(&arguments.devargs))]));
    set("afXdp", section([("mode", text(&arguments.xdp_mode))]));
    serde_json::from_value(Value::Object(fields))
}

/// A section is there if any of its fields is.
fn section<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    let map: Map<String, Value> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    (!map.is_empty()).then_some(Value::Object(map))
}
