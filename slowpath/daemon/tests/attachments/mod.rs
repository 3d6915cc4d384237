//! Containers: attached, kept over the end of the daemon whatever its kind, and removed.

use crate::daemon::{Daemon, Place, eventually, namespaces_possible};
use millrace_api::{Attachment, AttachmentId, AttachmentList, ClientError, QueuedDeletion, Status, path};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

fn place() -> Place {
    let place = Place::new("");
    let directory = place.path("pods");
    place.configure(&format!(
        "cni: {{ podCIDRs: [10.1.0.0/24, \"fd00:1::/64\"], vhostUserDirectory: {} }}\n",
        directory.display()
    ));
    place
}

fn id(container: &str) -> AttachmentId {
    AttachmentId { container_id: container.parse().unwrap(), if_name: "eth0".parse().unwrap() }
}

fn request(place: &Place, container: &str, kind: &str) -> Value {
    json!({ "containerId": container, "ifName": "eth0", "netns": format!("/run/netns/{}", place.pod(container)),
        "network": "pods", "kind": kind, "addresses": { "source": "own" } })
}

fn attach(daemon: &Daemon<'_>, place: &Place, container: &str, kind: &str) -> Attachment {
    daemon.client().post(path::ATTACHMENTS, &request(place, container, kind)).unwrap()
}

/// Asks whether all of an attachment is there.
fn check(daemon: &Daemon<'_>, container: &str) -> Result<Attachment, ClientError> {
    daemon.client().get(&path::attachment(&id(container)))
}

fn detach(daemon: &Daemon<'_>, container: &str) {
    daemon.client().delete(&path::attachment(&id(container))).unwrap();
}

/// An echo server in one pod and a connection to it from another.
fn connect(place: &Place, from: &str, to: &str, address: std::net::IpAddr) -> TcpStream {
    let server = place.within(to, move || TcpListener::bind(SocketAddr::new(address, 7)).unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut buffer = [0; 64];
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    let stream = place.within(from, move || {
        TcpStream::connect_timeout(&SocketAddr::new(address, 7), Duration::from_secs(10)).unwrap()
    });
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn connections_between_pods_outlive_the_daemon_however_it_ends() {
    if !namespaces_possible() {
        return;
    }
    let place = place();
    for pod in ["a", "b", "c"] {
        place.add_pod(pod);
    }
    let mut daemon = Daemon::start(&place);
    let before = place.links();
    let [a, b, c] =
        [("a", "tap"), ("b", "af-xdp"), ("c", "tap")].map(|(pod, kind)| attach(&daemon, &place, pod, kind));
    let v6 = |made: &Attachment| *made.addresses.iter().find(|ip| ip.is_ipv6()).unwrap();
    let mut streams = [
        connect(&place, "a", "b", b.addresses[0]),
        connect(&place, "b", "c", v6(&c)),
        connect(&place, "c", "a", a.addresses[0]),
    ];
    for (round, end) in ["kill", "terminate", "kill"].into_iter().enumerate() {
        for stream in &mut streams {
            echo(stream, format!("before {round}").as_bytes());
        }
        match end {
            "kill" => daemon.kill(),
            _ => assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log()),
        }
        assert!(place.in_pod("a").contains("eth0") && place.in_pod("b").contains("eth0"));
        // What is sent meanwhile is sent again.
        streams[0].write_all(b"meanwhile").unwrap();
        daemon = Daemon::start(&place);
        let mut back = [0; 9];
        streams[0].read_exact(&mut back).unwrap();
        assert_eq!(&back, b"meanwhile");
        for stream in &mut streams {
            echo(stream, format!("after {round}").as_bytes());
        }
        for (pod, made) in [("a", &a), ("b", &b), ("c", &c)] {
            assert_eq!(check(&daemon, pod).unwrap(), *made, "{}", daemon.log());
        }
        assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    }
    for pod in ["a", "b", "c"] {
        detach(&daemon, pod);
        assert!(!place.in_pod(pod).contains("eth0"));
    }
    assert_eq!(place.links(), before);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn what_was_deleted_or_went_away_while_the_daemon_was_down_is_removed_at_its_start() {
    if !namespaces_possible() {
        return;
    }
    let place = place();
    for pod in ["stays", "deleted", "vanished", "unplugged"] {
        place.add_pod(pod);
    }
    let mut daemon = Daemon::start(&place);
    let before = place.links();
    attach(&daemon, &place, "stays", "tap");
    attach(&daemon, &place, "deleted", "tap");
    attach(&daemon, &place, "vanished", "af-xdp");
    let unplugged = attach(&daemon, &place, "unplugged", "af-xdp");
    daemon.kill();
    let deletion = QueuedDeletion { id: id("deleted"), network: "pods".into() };
    let file = QueuedDeletion::path(&place.path("state"), &deletion.id);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, serde_json::to_vec(&deletion).unwrap()).unwrap();
    place.remove_pod("vanished");
    place.exec(&["ip", "link", "del", unplugged.host_interface.unwrap().name.as_str()]);
    assert!(!place.in_pod("unplugged").contains("eth0"));

    let mut daemon = Daemon::start(&place);
    let left: AttachmentList = daemon.client().get(path::ATTACHMENTS).unwrap();
    let left: Vec<String> = left.attachments.iter().map(|made| made.id.container_id.to_string()).collect();
    assert_eq!(left, ["stays", "unplugged"]);
    assert!(!file.exists() && !place.in_pod("deleted").contains("eth0"));
    assert_eq!(
        check(&daemon, "unplugged").unwrap().addresses,
        unplugged.addresses,
        "it is made again as it was"
    );
    let status: Status = daemon.client().get(path::STATUS).unwrap();
    assert_eq!((status.attachments.attachments, status.attachments.ipv4_left), (2, Some(251)));

    // And while it runs.
    let deletion = QueuedDeletion { id: id("stays"), network: "pods".into() };
    let file = QueuedDeletion::path(&place.path("state"), &deletion.id);
    std::fs::write(&file, serde_json::to_vec(&deletion).unwrap()).unwrap();
    eventually("the deletion is done", || !file.exists());
    detach(&daemon, "unplugged");
    detach(&daemon, "unplugged");
    assert_eq!(place.links(), before);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn an_interface_has_all_that_was_asked_for_and_a_check_names_what_is_missing() {
    if !namespaces_possible() {
        return;
    }
    let place = place();
    place.add_pod("a");
    let mut daemon = Daemon::start(&place);
    let mut wanted = request(&place, "a", "tap");
    wanted["mac"] = json!("02:00:00:00:00:77");
    wanted["mtu"] = json!(1400);
    wanted["addresses"] = json!({ "source": "own", "requested": ["10.1.0.99"] });
    wanted["routes"] = json!([{ "destination": "10.96.0.0/16", "mtu": 1300 }]);
    let made: Attachment = daemon.client().post(path::ATTACHMENTS, &wanted).unwrap();
    assert_eq!(made.addresses[0].to_string(), "10.1.0.99");
    let shown = place.exec_in("a", &["ip", "addr", "show", "eth0"]);
    for expected in ["02:00:00:00:00:77", "mtu 1400", "10.1.0.99/32", "fd00:1::2/128"] {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
    let routes = place.exec_in("a", &["ip", "route"]);
    assert!(routes.contains("10.96.0.0/16 via 169.254.1.1") && !routes.contains("default"), "{routes}");
    assert_eq!(check(&daemon, "a").unwrap(), made);
    place.exec_in("a", &["ip", "route", "del", "10.96.0.0/16"]);
    let error = check(&daemon, "a").unwrap_err().to_string();
    assert!(error.contains("10.96.0.0/16") && error.contains("a/eth0"), "{error}");
    for (body, part) in [("{}", "netns"), ("[", "attachment")] {
        let head = format!(
            "POST /v1/attachments HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = daemon.raw(format!("{head}{body}").as_bytes(), false);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(part), "{answer}");
    }
    detach(&daemon, "a");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_vhost_user_attachment_is_a_directory_of_its_owner_and_is_made_again() {
    if !namespaces_possible() {
        return;
    }
    let place = place();
    place.add_pod("a");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: nf\n  namespace: demo\n  annotations:\n    millrace.io/port: vhost-user\n    millrace.io/vhost-user-uid: \"1234\"\nspec: { containers: [] }\n";
    std::fs::write(place.path("manifests/pod.yaml"), pod).unwrap();
    let mut daemon = Daemon::start(&place);
    let mut wanted = request(&place, "a", "tap");
    wanted["pod"] = json!({ "namespace": "demo", "name": "nf" });
    let made: Attachment = daemon.client().post(path::ATTACHMENTS, &wanted).unwrap();
    let files = made.vhost_user.clone().unwrap();
    for end in 0..2 {
        for (path, mode) in [(&files.directory, 0o700), (&files.socket, 0o600), (&files.file, 0o600)] {
            let metadata = std::fs::symlink_metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (1234, mode), "{path:?}");
        }
        let told: Value = serde_json::from_slice(&std::fs::read(&files.file).unwrap()).unwrap();
        assert_eq!((&told["mode"], &told["socket"]), (&json!("client"), &json!("vhost-user.sock")));
        assert_eq!(told["mac"], json!(made.mac));
        assert_eq!(told["addresses"][0], json!({ "address": made.addresses[0], "prefixLength": 32 }));
        assert_eq!(told["gateways"][0]["address"], json!("169.254.1.1"));
        assert_eq!((&told["mtu"], &told["pod"]["name"]), (&json!(1500), &json!("nf")));
        assert_eq!(check(&daemon, "a").unwrap(), made);
        if end == 0 {
            daemon.kill();
            daemon = Daemon::start(&place);
        }
    }
    detach(&daemon, "a");
    assert!(!files.directory.exists());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn many_requests_at_once_get_different_addresses() {
    if !namespaces_possible() {
        return;
    }
    let place = place();
    let pods: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    for pod in &pods {
        place.add_pod(pod);
    }
    let mut daemon = Daemon::start(&place);
    let before = place.links();
    let kinds = ["tap", "af-xdp", "vhost-user"];
    let made: Vec<Attachment> = std::thread::scope(|scope| {
        let (daemon, place) = (&daemon, &place);
        let ask = |(at, pod): (usize, &String)| {
            let pod = pod.clone();
            scope.spawn(move || attach(daemon, place, &pod, kinds[at % 3]))
        };
        let asked: Vec<_> = pods.iter().enumerate().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = made.iter().flat_map(|made| made.addresses.clone()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 24);
    let garbage = json!({ "network": "pods", "valid": [id("p3")] });
    let removed: Value = daemon.client().post(path::ATTACHMENTS_GC, &garbage).unwrap();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 11);
    detach(&daemon, "p3");
    assert_eq!(place.links(), before);
    assert_eq!(std::fs::read_dir(place.path("state/attachments")).unwrap().count(), 0);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
