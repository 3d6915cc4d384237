//! Pods: a network namespace with a kernel stack behind a port of some kind.

use crate::manifest::NAMESPACE;
use crate::netns::Netns;
use crate::testpmd::Testpmd;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The gateway that each pod sees.
pub(crate) const GATEWAY_IPV4: &str = "169.254.1.1";
pub(crate) const GATEWAY_IPV6: &str = "fe80::4d:52ff:fe00:1";

/// The interface of the host's own leg, and its port.
pub(crate) const HOST_LEG: &str = "millrace0";

/// How a pod is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// AF_XDP on a veth pair.
    AfXdp,
    /// A TAP interface.
    Tap,
    /// A veth pair whose end in the pod keeps its offloads.
    Veth,
    /// vhost-user; testpmd's virtio-user carries the frames to a TAP of the pod's own.
    Vhost,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::AfXdp, Kind::Tap, Kind::Veth, Kind::Vhost];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AfXdp => "af-xdp",
            Kind::Tap => "tap",
            Kind::Veth => "veth",
            Kind::Vhost => "vhost-user",
        }
    }
}

/// An IP family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];
}

/// What the namespace behind a port stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A pod of this node, with a manifest.
    Pod,
    /// The node's own network namespace; it has the node's addresses.
    Host,
    /// Everything beyond the cluster.
    World,
}

/// One pod, or another place with a network namespace behind a port.
#[derive(Debug)]
pub struct Pod {
    /// Its name, which is also its port's.
    pub name: String,
    /// How it is attached.
    pub kind: Kind,
    // The carrier before the namespace: it runs inside.
    carrier: Option<Testpmd>,
    netns: Netns,
    place: Place,
    addresses: [IpAddr; 2],
    mac: String,
    mtu: u16,
    interface: &'static str,
}

/// The MTU of ports that have none of their own.
const MTU: u16 = 1500;

impl Pod {
    /// The pod with its namespace; nothing is attached yet.
    pub(crate) fn new(name: &str, kind: Kind, number: u8) -> Self {
        let addresses = [
            Ipv4Addr::new(10, 77, 0, number).into(),
            Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number.into()).into(),
        ];
        Self::at_place(name, kind, number, Place::Pod, addresses)
    }

    /// Somewhere else, with addresses of its own; nothing is attached yet.
    pub(crate) fn at_place(name: &str, kind: Kind, number: u8, place: Place, addresses: [IpAddr; 2]) -> Self {
        Self::in_netns(name, kind, number, place, addresses, Netns::new(name))
    }

    fn in_netns(
        name: &str,
        kind: Kind,
        number: u8,
        place: Place,
        addresses: [IpAddr; 2],
        netns: Netns,
    ) -> Self {
        let mac = format!("02:4d:00:00:00:{number:02x}");
        let interface = "eth0";
        Pod { name: name.to_owned(), kind, carrier: None, netns, place, addresses, mac, mtu: MTU, interface }
    }

    /// A pod in a namespace that is there, with what somebody else has given it.
    pub(crate) fn given(name: &str, kind: Kind, netns: Netns, addresses: [IpAddr; 2], mac: &str) -> Self {
        Pod { mac: mac.to_owned(), ..Self::in_netns(name, kind, 0, Place::Pod, addresses, netns) }
    }

    /// A pod whose application listens at a vhost-user socket, to which the daemon connects.
    pub fn listening(name: &str, socket: &Path, mac: &str, addresses: [&str; 2]) -> Self {
        let addresses = addresses.map(|address| address.parse().expect("an address"));
        let mut pod = Self::given(name, Kind::Vhost, Netns::new(name), addresses, mac);
        pod.carrier = Some(Testpmd::listening_carrier(&pod.netns, socket, mac));
        pod.configure_tap();
        pod
    }

    /// The daemon's own namespace, which has its leg already.
    pub fn own_host(netns: &Netns, addresses: [IpAddr; 2]) -> Self {
        Self::host_called(HOST_LEG, netns, addresses)
    }

    /// The same by the name of its node, where there are several.
    pub(crate) fn host_called(name: &str, netns: &Netns, addresses: [IpAddr; 2]) -> Self {
        let host = Self::in_netns(name, Kind::Tap, 0, Place::Host, addresses, netns.borrowed());
        Pod { interface: HOST_LEG, ..host }
    }

    /// A place that no port of Millrace leads to.
    pub(crate) fn elsewhere(name: &str, addresses: [IpAddr; 2]) -> Self {
        Self::at_place(name, Kind::Tap, 0, Place::World, addresses)
    }

    /// Gives it other addresses, before it is attached.
    pub(crate) fn set_addresses(&mut self, addresses: [IpAddr; 2]) {
        self.addresses = addresses;
    }

    /// Gives its port an MTU of its own, before it is attached.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Its interface.
    pub fn interface(&self) -> &'static str {
        self.interface
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The MTU of its first interface, bytes.
    pub fn mtu(&self) -> u16 {
        self.netns.must(&["cat", "/sys/class/net/eth0/mtu"]).trim().parse().expect("the kernel's number")
    }

    /// The MTU that it knows of the way to an address, bytes, if that is another than its interface's.
    pub fn known_mtu(&self, to: IpAddr) -> Option<u16> {
        let shown = self.netns.must(&["ip", "route", "get", &to.to_string()]);
        let mut words = shown.split_whitespace().skip_while(|word| *word != "mtu");
        words.nth(1).map(|mtu| mtu.parse().expect("the kernel's number"))
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        self.addresses[usize::from(family == Family::V6)]
    }

    /// Its addresses of both families.
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }

    /// Puts one more address on its interface. Only the world may send from what is not its own.
    pub fn add_address(&self, address: IpAddr) {
        let prefix = format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
        self.netns.must(&["ip", "addr", "add", &prefix, "dev", "eth0"]);
    }

    /// Address and port.
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }

    /// Its MAC address.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// Where its vhost-user socket is.
    pub(crate) fn socket(&self, room: &Path) -> PathBuf {
        room.join(format!("{}.vhost", self.name))
    }

    /// Its port as configuration and API take it.
    pub fn port(&self, room: &Path) -> Value {
        let mut port = json!({"name": self.name, "kind": self.kind.name(), "mac": self.mac()});
        let [v4, v6] = self.addresses;
        match self.place {
            Place::Pod => port["pod"] = json!(format!("{NAMESPACE}/{}", self.name)),
            Place::Host => {
                port["role"] = json!("host");
                port["addresses"] = json!([v4, v6]);
            }
            // A port that owns a default route has the role `uplink` unless told otherwise.
            Place::World => port["addresses"] = json!(["0.0.0.0/0", "::/0", v4, v6]),
        }
        if self.mtu != MTU {
            port["mtu"] = json!(self.mtu);
        }
        match self.kind {
            Kind::AfXdp | Kind::Tap | Kind::Veth => port["netns"] = json!(self.netns.name()),
            Kind::Vhost => port["vhostUser"] = json!({"socket": self.socket(room)}),
        }
        port
    }

    /// Connects a vhost-user pod once the daemon listens; the other kinds are attached by the daemon.
    pub(crate) fn connect(&mut self, room: &Path) {
        if self.kind == Kind::Vhost {
            self.carry(&self.socket(room));
        }
    }

    /// Connects to a vhost-user socket.
    pub(crate) fn carry(&mut self, socket: &Path) {
        // The former one's TAP has the name.
        self.carrier = None;
        self.carrier = Some(Testpmd::carrier(&self.netns, socket, &self.mac));
        self.configure_tap();
    }

    /// What the daemon does for interfaces that it makes.
    fn configure_tap(&self) {
        let [v4, v6] = self.addresses().map(|address| address.to_string());
        for command in [
            vec!["ip", "link", "set", "eth0", "address", &self.mac, "mtu", &self.mtu.to_string(), "up"],
            // The carrier has no offloads; frames must be whole and summed.
            vec!["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"],
            vec!["ip", "addr", "add", &format!("{v4}/32"), "dev", "eth0"],
            vec!["ip", "addr", "add", &format!("{v6}/128"), "dev", "eth0"],
            vec!["ip", "route", "add", "default", "via", GATEWAY_IPV4, "dev", "eth0", "onlink"],
            vec!["ip", "-6", "route", "add", "default", "via", GATEWAY_IPV6, "dev", "eth0", "onlink"],
        ] {
            let command: Vec<&str> = command.iter().map(|part| &**part).collect();
            self.netns.must(&command);
        }
    }
}
