//! Why frames are dropped. A drop is a fact, not an error: every one has a reason and is counted.

macro_rules! drop_reasons {
    ($($name:ident = $text:literal: $doc:literal),+ $(,)?) => {
        /// Why a frame was dropped. A closed list: no frame disappears without one of these.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $doc] $name),+ }

        impl DropReason {
            /// All reasons, in the order of their index.
            pub const ALL: [DropReason; DROP_REASONS] = [$(DropReason::$name),+];

            /// The name in metrics, traces and the command line.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text),+ }
            }

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(DropReason::$name => $doc),+ }
            }

            /// Position in [`DropReason::ALL`] and in arrays of counters.
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        /// How many reasons there are.
        pub const DROP_REASONS: usize = [$(stringify!($name)),+].len();
    };
}

drop_reasons! {
    // Parsing.
    Truncated = "truncated": "A header or the length it states reaches beyond the frame.",
    BadHeader = "bad_header": "A header contradicts itself: version, header length or field values.",
    BadIpv4Checksum = "bad_ipv4_checksum": "The IPv4 header checksum is wrong.",
    UnknownEtherType = "unknown_ether_type": "Neither IPv4, IPv6 nor ARP.",
    UnsupportedVlan = "unsupported_vlan": "A VLAN tag on a port that carries none.",
    TooManyExtensionHeaders = "too_many_extension_headers": "An IPv6 header chain longer than is followed.",
    UnsupportedProtocol = "unsupported_protocol": "A layer 4 protocol that cannot be carried on this path.",
    // Who may send what.
    ForeignMac = "foreign_mac": "Not addressed to the gateway's MAC address.",
    SpoofedMac = "spoofed_mac": "The source MAC address is not the port's.",
    SpoofedAddress = "spoofed_address": "The source IP address is not one of the port's.",
    BadAddress = "bad_address": "A source or destination address that must never be routed.",
    Multicast = "multicast": "Multicast and broadcast are not forwarded.",
    OwnFrame = "own_frame": "One of this node's own frames, come back by the uplink.",
    // Neighbours.
    NeighbourUnresolved = "neighbour_unresolved": "The next hop's MAC address was not found in time.",
    NeighbourForeign = "neighbour_foreign": "An ARP or neighbour discovery message that is not for this router.",
    NeighbourMalformed = "neighbour_malformed": "A malformed ARP or neighbour discovery message.",
    // Routing and services.
    TtlExceeded = "ttl_exceeded": "The TTL or hop limit came to its end here.",
    NoRoute = "no_route": "No route to the destination.",
    RouteBlackhole = "route_blackhole": "A route of type blackhole leads there.",
    RouteUnreachable = "route_unreachable": "A route of type unreachable leads there.",
    RouteProhibit = "route_prohibit": "A route of type prohibit leads there.",
    NoBackend = "no_backend": "The service has no endpoint that may be used.",
    NoService = "no_service": "The address is a service's, the port is not.",
    SourceRange = "source_range": "The load balancer address does not admit this source (loadBalancerSourceRanges).",
    EndpointGone = "endpoint_gone": "The connection's endpoint serves no more; its sender was told by a reset.",
    PortGone = "port_gone": "The port that the frame was to leave by is gone.",
    TooBig = "too_big": "Larger than the MTU of the way out.",
    FragmentWithoutFirst = "fragment_without_first": "A fragment whose datagram's first fragment was not seen.",
    Transit = "transit": "Came by an uplink and would leave by one: not this node's to route (routing.transit).",
    // Tunnels.
    TunnelPeer = "tunnel_peer": "An encapsulated packet from an address that is no node's.",
    TunnelHeader = "tunnel_header": "A malformed UDP or VXLAN header, or a cut-off frame behind it.",
    TunnelVni = "tunnel_vni": "An encapsulated packet of another network (VNI).",
    TunnelChecksum = "tunnel_checksum": "The UDP checksum of an encapsulated packet is wrong.",
    TunnelEcn = "tunnel_ecn": "Congestion was met by a packet in a tunnel whose sender cannot be told (RFC 6040).",
    TunnelFragment = "tunnel_fragment": "A fragment of an encapsulated packet: they are sent whole or not at all.",
    // Flows.
    FlowTableFull = "flow_table_full": "No room for another flow.",
    NoSourcePort = "no_source_port": "No source port was found that tells the replies from those of another flow.",
    FlowInvalid = "flow_invalid": "Not a packet that can start or continue a flow.",
    IcmpUnrelated = "icmp_unrelated": "An ICMP error about a flow that is not known.",
    IcmpRateLimited = "icmp_rate_limited": "An ICMP error that would have exceeded the rate limit.",
    PolicyIngress = "policy_ingress": "Denied by the receiver's network policy.",
    PolicyEgress = "policy_egress": "Denied by the sender's network policy.",
    // Ports.
    TxQueueFull = "tx_queue_full": "The port did not take the frame in time.",
    HandoverFull = "handover_full": "The ring to the worker that owns the queue was full.",
    Bandwidth = "bandwidth": "Beyond the bandwidth that the pod may receive.",
    LinkDown = "link_down": "The port's peer is not connected.",
    NoBuffer = "no_buffer": "The packet pool was empty.",
    NoHeadroom = "no_headroom": "No room in the buffer for a header.",
    RxMalformed = "rx_malformed": "The peer handed over a descriptor or offload header that contradicts itself.",
    TxUnsupported = "tx_unsupported": "The port can neither take the frame nor have it cut in software.",
    TxError = "tx_error": "The device or the kernel refused the frame.",
    // Consumed, not lost: answered or handled by the node itself.
    Consumed = "consumed": "Handled by this node itself; nothing to forward.",
}
