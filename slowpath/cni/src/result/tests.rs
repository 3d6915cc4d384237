use super::*;
use serde_json::json;

fn read(value: Value) -> NetworkResult {
    serde_json::from_value(value).unwrap()
}

fn written(result: NetworkResult, version: Version) -> Value {
    serde_json::to_value(result.in_version(version)).unwrap()
}

/// Everything that a result of 1.1.0 can have.
fn full() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "veth1", "mac": "02:00:00:00:00:01", "mtu": 1500},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/blue",
             "socketPath": "/run/s.sock", "pciID": "0000:00:01.0"},
        ],
        "ips": [
            {"interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
            {"interface": 1, "address": "fd00::5/64"},
        ],
        "routes": [
            {"dst": "0.0.0.0/0"},
            {"dst": "10.9.0.0/16", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 3, "table": 254,
             "scope": 0},
        ],
        "dns": {"nameservers": ["10.1.0.1"], "domain": "example", "search": ["a", "b"], "options": ["ndots:1"]},
    })
}

#[test]
fn the_newest_form_is_read_and_written_alike() {
    assert_eq!(written(read(full()), Version::V1_1_0), full());
}

#[test]
fn before_1_1_0_there_are_no_mtu_sockets_devices_and_attributes_of_routes() {
    let expected = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "veth1", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/blue"},
        ],
        "ips": [
            {"interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
            {"interface": 1, "address": "fd00::5/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.1"}],
        "dns": full()["dns"],
    });
    assert_eq!(written(read(full()), Version::V1_0_0), expected);
}

#[test]
fn before_1_0_0_addresses_tell_their_family() {
    for version in [Version::V0_3_1, Version::V0_4_0] {
        let written = written(read(full()), version);
        assert_eq!(written["cniVersion"], version.name());
        assert_eq!(
            written["ips"],
            json!([
                {"version": "4", "interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
                {"version": "6", "interface": 1, "address": "fd00::5/64"},
            ])
        );
        assert_eq!(written["interfaces"][1].as_object().unwrap().len(), 3);
        assert_eq!(written["routes"][1], json!({"dst": "10.9.0.0/16", "gw": "10.1.0.1"}));
        // What is read of it and written in a later form has lost the family again.
        let later = self::written(read(written), Version::V1_0_0);
        assert_eq!(later["ips"][0].get("version"), None);
    }
}

#[test]
fn what_is_not_known_is_kept() {
    let mut value = full();
    value["x"] = json!({"y": 1});
    value["interfaces"][0]["x"] = json!([1]);
    value["ips"][0]["x"] = json!("z");
    value["routes"][1]["x"] = json!(true);
    assert_eq!(written(read(value.clone()), Version::V1_1_0), value);
    assert_eq!(written(read(value), Version::V1_0_0)["routes"][1]["x"], json!(true));
}

#[test]
fn an_abbreviated_result_of_an_address_plugin_is_read() {
    let result = read(json!({"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], "routes": null}));
    assert_eq!(result.ips[0].ip(), Ok("10.1.0.5".parse().unwrap()));
    assert!(result.interfaces.is_empty() && result.routes.is_empty() && result.dns == Dns::default());
}

#[test]
fn an_interface_is_found_in_its_sandbox_only() {
    let mut value = full();
    value["interfaces"][0]["name"] = json!("eth0");
    assert_eq!(read(value).position("eth0"), Some(1));
    assert_eq!(read(full()).position("veth1"), None);
}

#[test]
fn a_route_is_wished_for_without_its_next_hop() {
    let routes = read(full()).routes;
    let wished = routes[1].wished().unwrap();
    assert_eq!(wished.destination.to_string(), "10.9.0.0/16");
    assert_eq!((wished.gateway, wished.mtu, wished.scope), (None, Some(1400), Some(0)));
    let back = RouteEntry::from(&Route { gateway: Some("10.1.0.1".parse().unwrap()), ..wished });
    assert_eq!(back, routes[1]);
    let nowhere = RouteEntry { dst: "10.9.0.0".into(), ..RouteEntry::default() };
    assert!(nowhere.wished().unwrap_err().contains("`10.9.0.0`"));
}
