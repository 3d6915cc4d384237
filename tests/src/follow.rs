//! A daemon that follows an API server, which is in the node's namespace.

use crate::daemon::Daemon;
use crate::network::Network;
use millrace_apiserver::{ApiServer, Store};
use serde_json::{Value, json};
use std::sync::Arc;

const SERVER: &str = "127.0.0.1:6443";

/// Starts a server with these objects.
pub fn serve(daemon: &Daemon, store: &Arc<Store>) -> ApiServer {
    let store = Arc::clone(store);
    let address = SERVER.parse().expect("an address");
    daemon.netns().within(move || ApiServer::start_with(address, store)).expect("the port is free")
}

/// Starts a server that the next instance of the daemon follows.
pub fn serve_next(daemon: &Daemon, store: &Arc<Store>) -> ApiServer {
    let kubeconfig = daemon.room().join("kubeconfig");
    let server = serve(daemon, store);
    std::fs::write(&kubeconfig, server.kubeconfig()).expect("a file can be written");
    daemon.configure(|config| config["source"] = json!({"kubernetes": {"kubeconfig": kubeconfig}}));
    server
}

/// The object of the daemon's own node.
pub fn own_node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": Network::node_name()},
        "spec": {"podCIDRs": ["10.77.0.0/16", "fd00:77::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}
