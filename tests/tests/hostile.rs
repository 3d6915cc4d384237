//! Pods that send what no honest pod would.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Echo, Family, Kind, Network, eventually, exchange, send_garbage};
use std::time::Duration;

const PORT: u16 = 7007;

#[test]
fn garbage_from_every_kind_of_port_harms_nobody() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap, Kind::Vhost, Kind::AfXdp]);
    let _server = Echo::start(network.pod(1), PORT);
    let before = network.daemon().buffers_in_use();
    for (at, seed) in [(0, 1), (1, 2), (2, 3)] {
        send_garbage(network.pod(at), 6000, seed);
        for family in Family::BOTH {
            exchange(network.pod(3), network.pod(1).at(family, PORT), 1 << 20).unwrap();
        }
    }
    assert!(network.daemon().status().dropped_frames > 6000);
    eventually("buffers back in their pools", Duration::from_secs(5), || {
        network.daemon().buffers_in_use() <= before + 256
    });
    network.stop();
}
