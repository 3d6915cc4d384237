//! What routers between nodes have said of how large a packet through a tunnel may be.

use millrace_model::Model;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long that counts, as in Linux (`net.ipv4.route.mtu_expires`): the way may have become wider.
const LIFETIME: Duration = Duration::from_secs(600);

/// Until when the path MTU of each tunnel end counts.
#[derive(Debug, Default)]
pub(crate) struct PathMtus(BTreeMap<IpAddr, Instant>);

impl PathMtus {
    /// A router takes no outer packets to this tunnel end that are larger than `mtu` bytes.
    pub(super) fn learn(&mut self, model: &mut Model, remote: IpAddr, mtu: u16, now: Instant) {
        if model.lower_path_mtu(remote, mtu) {
            tracing::info!(%remote, mtu, "a narrow way to another node");
            self.0.insert(remote, now + LIFETIME);
        }
    }

    /// Forgets what has been true for long enough.
    pub(super) fn expire(&mut self, model: &mut Model, now: Instant) {
        self.0.retain(|remote, until| {
            let counts = *until > now;
            if !counts {
                model.forget_path_mtu(*remote);
            }
            counts
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::port::PortId;
    use millrace_fastpath::tables::Gateway;
    use millrace_fastpath::wire::ethernet::MacAddr;
    use millrace_model::underlay::{Hop, Underlay, UnderlayRoute, Uplink};
    use millrace_model::{ModelConfig, Node, Object, ObjectName};

    fn node(name: &str, address: &str, range: &str) -> Object {
        Object::Node(Node {
            name: ObjectName::cluster_wide(name),
            labels: Default::default(),
            zone: None,
            addresses: vec![address.parse().unwrap()],
            pod_cidrs: vec![range.parse().unwrap()],
            routing: Default::default(),
            leaving: false,
            network_unavailable: None,
        })
    }

    fn model() -> Model {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let gateway = Gateway { mac, ipv4: [169, 254, 1, 1].into(), ipv6: "fe80::1".parse().unwrap() };
        let mut model = Model::new(ModelConfig::new("us", gateway));
        model.apply(node("us", "192.0.2.1", "10.1.0.0/24"));
        model.apply(node("far", "198.51.100.3", "10.3.0.0/24"));
        let (port, router) = (PortId(1), "192.0.2.254".parse().unwrap());
        model.set_underlay(Underlay {
            uplinks: vec![Uplink {
                port,
                mac,
                mtu: 1500,
                addresses: vec!["192.0.2.1/24".parse().unwrap()],
                is_up: true,
                companion: None,
            }],
            routes: vec![UnderlayRoute {
                to: "0.0.0.0/0".parse().unwrap(),
                metric: 0,
                hops: vec![Hop { port, gateway: Some(router) }],
                refuses: None,
            }],
            neighbours: [((port, router), MacAddr([2, 0, 0, 0, 0, 2]))].into(),
        });
        model
    }

    #[test]
    fn a_tunnel_is_as_narrow_as_a_router_says_for_ten_minutes() {
        let (mut model, mut known, now) = (model(), PathMtus::default(), Instant::now());
        let far: IpAddr = "198.51.100.3".parse().unwrap();
        let mtu = |model: &mut Model| {
            let tables = model.compile();
            tables.routes.way("10.3.0.7".parse::<IpAddr>().unwrap().into()).unwrap().mtu
        };
        assert_eq!(mtu(&mut model), 1450);
        known.learn(&mut model, far, 1400, now);
        assert_eq!(mtu(&mut model), 1350);
        known.learn(&mut model, far, 1460, now);
        assert_eq!(mtu(&mut model), 1350, "never more than was said before");
        known.learn(&mut model, far, 68, now);
        assert_eq!(mtu(&mut model), 1280, "never too little for IPv6");
        known.learn(&mut model, "203.0.113.1".parse().unwrap(), 1300, now);
        assert_eq!(known.0.len(), 1, "of no other node");
        known.expire(&mut model, now + LIFETIME / 2);
        assert_eq!(mtu(&mut model), 1280);
        known.expire(&mut model, now + LIFETIME);
        assert_eq!(mtu(&mut model), 1450);
    }
}
