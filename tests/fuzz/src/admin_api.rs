//! Any text as what the daemon reads from its users: its configuration, and requests to the admin API; and as what
//! the command line reads from a daemon.
//!
//! The first byte chooses what the rest is taken for.

use std::fmt::Debug;
use std::path::Path;

use millrace_api::{
    DropList, ErrorBody, FlowFilter, FlowList, ObjectErrorList, Port, PortConfig, PortList, ServiceList,
    Status, Tables, Trace, TraceRequest, WorkerList,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs one input.
pub fn check(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    match choice % 15 {
        0 => configuration(text),
        1 => filter(text),
        2 => read_back::<PortConfig>(text),
        3 => read_back::<Port>(text),
        4 => read_back::<PortList>(text),
        5 => read_back::<Status>(text),
        6 => read_back::<ServiceList>(text),
        7 => read_back::<FlowList>(text),
        8 => read_back::<DropList>(text),
        9 => read_back::<WorkerList>(text),
        10 => read_back::<Tables>(text),
        11 => read_back::<ObjectErrorList>(text),
        12 => read_back::<ErrorBody>(text),
        13 => trace_request(text),
        _ => read_back::<Trace>(text),
    }
}

/// A configuration, or an error that says where.
fn configuration(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match millrace_config::parse(Path::new("millrace.yaml"), text) {
        Ok(config) => drop(format!("{config:?}")),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("millrace.yaml"), "{message} does not name the file");
        }
    }
}

/// A filter becomes a path that nothing can break out of.
fn filter(text: &[u8]) {
    let Ok(filter) = serde_json::from_slice::<FlowFilter>(text) else { return };
    is_path(&filter.to_path());
}

/// A packet to be traced becomes such a path, too; what it leaves open has a value that goes with the rest.
fn trace_request(text: &[u8]) {
    read_back::<TraceRequest>(text);
    let Ok(request) = serde_json::from_slice::<TraceRequest>(text) else { return };
    is_path(&request.to_path());
    let filled = TraceRequest {
        source_port: request.source_port(),
        size: Some(request.size()),
        ttl: Some(request.ttl()),
        ..request
    };
    assert_eq!(filled.clone().checked().as_ref(), Ok(&filled));
}

fn is_path(path: &str) {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    assert!(path.bytes().all(legal), "{path:?} is not a path");
}

/// JSON that is taken is written again as JSON that means the same.
fn read_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&value).expect("what was JSON can be JSON again");
    let again: T = serde_json::from_slice(&written).expect("what we wrote can be read");
    assert_eq!(again, value);
}
