//! Pods' pairs, in network namespaces of their own, which go with the test.

use super::*;
use crate::attachment::fixture::id;
use crate::link::tests::{Pod, links, own_host, run};
use std::path::Path;

const KINDS: [&str; 2] = ["veth", "af-xdp"];

/// A port of this kind for the pod.
fn port(kind: &str, pod: &Pod) -> PortConfig {
    let port = serde_json::json!({
        "name": "c-7", "kind": kind, "netns": pod.0, "mac": "02:00:00:00:00:07", "addresses": ["10.7.0.7"],
    });
    serde_json::from_value(port).unwrap()
}

fn plumbing(state: &Path) -> KernelPlumbing {
    KernelPlumbing::open(&Config { state_directory: state.to_owned(), ..Config::default() }).unwrap()
}

fn lasting(adopted: bool) -> Lasting {
    Lasting {
        id: id("a"),
        network: "pods".to_owned(),
        pod: None,
        host_end: "mr0123".parse().unwrap(),
        routes: None,
        uid: None,
        host_ports: vec![],
        adopted,
    }
}

/// Whether the pod's end takes what its kernel has not cut.
fn segments(pod: &Pod) -> bool {
    pod.run(&["ethtool", "-k", "eth0"]).contains("tx-tcp-segmentation: on")
}

#[test]
fn a_containers_pair_is_made_adopted_checked_and_removed() {
    if !own_host() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let mut plumbing = plumbing(state.path());
    let before = links();
    for kind in KINDS {
        let pod = Pod::new();
        let (config, made, adopted) = (port(kind, &pod), lasting(false), lasting(true));
        let addresses = ["10.7.0.7/32".parse().unwrap()];
        let new = Site {
            id: PortId(7),
            config: &config,
            addresses: &addresses,
            mtu: 1400,
            lasting: Some(&made),
            nic: None,
        };
        assert_eq!(plumbing.prepare(&new).unwrap(), Some(made.host_end.clone()), "{kind}");
        let routes = plumbing.finish(&new).unwrap();
        assert_eq!(routes.len(), 1);
        plumbing.check(&new, &routes).unwrap();
        assert_eq!(segments(&pod), kind == "veth", "{kind}");

        let old = Site { lasting: Some(&adopted), ..new };
        assert_eq!(plumbing.prepare(&old).unwrap(), Some(made.host_end.clone()), "{kind}");
        assert!(plumbing.finish(&old).unwrap().is_empty());
        plumbing.check(&old, &routes).unwrap();
        pod.run(&["ip", "addr", "del", "10.7.0.7/32", "dev", "eth0"]);
        assert!(plumbing.check(&old, &[]).unwrap_err().to_string().contains("10.7.0.7/32"), "{kind}");

        plumbing.undoing(&new).unwrap()().unwrap();
        assert_eq!(
            (links(), pod.run(&["ip", "-br", "link"]).contains("eth0")),
            (before.clone(), false),
            "{kind}"
        );
        assert!(plumbing.prepare(&old).unwrap_err().to_string().contains("mr0123 is gone"), "{kind}");
        plumbing.undo(&new).unwrap();
    }
}

#[test]
fn a_configured_pair_is_on_record_until_it_is_removed() {
    if !own_host() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let before = links();
    for kind in KINDS {
        let (pod, mut plumbing) = (Pod::new(), plumbing(state.path()));
        let config = port(kind, &pod);
        let addresses = ["10.7.0.7/32".parse().unwrap()];
        let site = Site {
            id: PortId(7),
            config: &config,
            addresses: &addresses,
            mtu: 1400,
            lasting: None,
            nic: None,
        };
        let record = || std::fs::read_to_string(state.path().join("leftovers.json")).unwrap();
        let host_end = plumbing.prepare(&site).unwrap().unwrap();
        plumbing.finish(&site).unwrap();
        assert!(run("ip", &["link", "show", host_end.as_str()]).contains("alias millrace:c-7"), "{kind}");
        assert!(record().contains(host_end.as_str()), "{kind}");
        plumbing.undo(&site).unwrap();
        plumbing.undo(&site).unwrap();
        assert_eq!((links(), record()), (before.clone(), "[]".to_owned()), "{kind}");
    }
}
