use super::*;
use serde_json::json;

fn call() -> CheckCall {
    let id =
        millrace_api::AttachmentId { container_id: "c1".parse().unwrap(), if_name: "eth0".parse().unwrap() };
    CheckCall { id, netns: "/proc/self/ns/mnt".into() }
}

fn expected() -> NetworkResult {
    serde_json::from_value(json!({
        "interfaces": [
            {"name": "lo", "sandbox": "/x"},
            {"name": "eth0", "sandbox": "/x", "mac": "02:00:00:00:00:0A"},
        ],
        "ips": [
            {"interface": 0, "address": "127.0.0.1/8"},
            {"interface": 1, "address": "10.0.0.5/32"},
            {"interface": 1, "address": "fd00::5/128"},
        ],
    }))
    .unwrap()
}

fn found() -> Attachment {
    serde_json::from_value(json!({
        "containerId": "c1", "ifName": "eth0", "network": "pods", "netns": "/proc/thread-self/ns/mnt",
        "port": "c-1", "kind": "tap", "mac": "02:00:00:00:00:0a", "mtu": 1500,
        "addresses": ["fd00::5", "10.0.0.5"],
    }))
    .unwrap()
}

#[test]
fn what_is_as_it_was_passes() {
    assert_eq!(compare(&call(), "pods", &expected(), &found()), Ok(()));
}

#[test]
fn every_difference_is_told() {
    let told =
        |expected: &NetworkResult, found: &Attachment| compare(&call(), "pods", expected, found).unwrap_err();
    let network = Attachment { network: "other".into(), ..found() };
    assert!(told(&expected(), &network).contains("network other"));
    let netns = Attachment { netns: "/proc/self/ns/uts".into(), ..found() };
    assert!(told(&expected(), &netns).contains("/proc/self/ns/uts"));
    let mac = Attachment { mac: "02:00:00:00:00:0b".parse().unwrap(), ..found() };
    assert!(told(&expected(), &mac).contains("02:00:00:00:00:0b"));
    let addresses = Attachment { addresses: vec!["10.0.0.6".parse().unwrap()], ..found() };
    assert_eq!(told(&expected(), &addresses), "its addresses are 10.0.0.6, not 10.0.0.5, fd00::5");
    let mut interfaces = expected();
    interfaces.interfaces.pop();
    assert!(told(&interfaces, &found()).contains("no interface eth0"));
    let mut addresses = expected();
    addresses.ips[1].address = "somewhere".into();
    assert!(told(&addresses, &found()).contains("`somewhere`"));
}

#[test]
fn what_later_plugins_may_change_is_not_compared() {
    let mut changed = expected();
    changed.interfaces[1].mtu = Some(1400);
    changed.interfaces[1].mac = String::new();
    changed.routes.push(crate::result::RouteEntry { dst: "10.0.0.0/8".into(), ..Default::default() });
    assert_eq!(compare(&call(), "pods", &changed, &found()), Ok(()));
}
