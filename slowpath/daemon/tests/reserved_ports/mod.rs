//! The ports to masquerade with are kept from the host's programs, and given back.

use crate::daemon::{Daemon, Place, namespaces_possible};

const LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn listed(place: &Place) -> String {
    place.exec(&["cat", LIST]).trim().to_owned()
}

fn list(place: &Place, ports: &str) {
    place.exec(&["sh", "-c", &format!("echo '{ports}' > {LIST}")]);
    assert_eq!(listed(place), ports);
}

#[test]
fn masquerade_ports_are_reserved_while_the_daemon_runs() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("services: { masqueradePorts: 50000-51023, healthAddress: none }\n");
    list(&place, "8080,50500");
    let mut daemon = Daemon::start(&place);
    assert_eq!(listed(&place), "8080,50000-51023");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(listed(&place), "8080,50500");
}

#[test]
fn what_a_killed_daemon_reserved_is_given_back_by_the_next() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("services: { masqueradePorts: 50000-51023, healthAddress: none }\n");
    let mut daemon = Daemon::start(&place);
    daemon.kill();
    assert_eq!(listed(&place), "50000-51023", "it outlives the process");
    list(&place, "9148,50000-51023");

    place.replace("services: { masqueradePorts: 60000-61023, healthAddress: none }\n");
    let mut daemon = Daemon::start(&place);
    assert_eq!(listed(&place), "9148,60000-61023");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(listed(&place), "9148");
}

#[test]
fn a_list_that_cannot_be_written_is_a_warning_that_names_the_ports() {
    if !namespaces_possible() {
        return;
    }
    let place =
        Place::new("services: { masqueradePorts: 50000-51023, healthAddress: none }\n").read_only_sysctls();
    let mut daemon = Daemon::start(&place);
    let log = daemon.log();
    assert!(log.contains("50000-51023") && log.contains("ip_local_reserved_ports"), "{log}");
    assert_eq!(listed(&place), "");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
