//! The offload state that travels with a frame between port kinds.
//!
//! It is the model of `struct virtio_net_hdr` (virtio 1.2, section 5.1.6), which Linux's TAP and virtio-net
//! share: a sender may leave the layer 4 checksum to be completed, and may hand over one large frame that is to be
//! cut into segments. Both stay as they are from port to port and are settled in software only where the
//! way out cannot take them.

/// What is still to be done to a frame, or was already done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// State of the layer 4 checksum.
    pub checksum: Checksum,
    /// Set when the frame is one large segment that is to be cut.
    pub gso: Option<Gso>,
    /// Bytes of headers before an inner frame, when this is an encapsulated one that is not finished; else 0. `checksum`
    /// and `gso` are about the inner frame (offsets count from the outer one's start). Still to be done, besides: when it
    /// is cut, lengths and identification of the outer headers of each piece; and the outer UDP checksum, of which
    /// the field holds the pseudo-header's sum, or 0 if there is to be none.
    pub outer: u16,
}

impl Offload {
    /// Nothing to be done: the frame is on the wire's terms.
    pub const NONE: Offload = Offload { checksum: Checksum::Complete, gso: None, outer: 0 };
}

/// State of the layer 4 checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// The field holds a full checksum, which nobody on this node has verified.
    #[default]
    Complete,
    /// The field holds a full checksum that the sender or a NIC vouches for.
    Verified,
    /// The field holds the pseudo-header's sum, not complemented. The internet checksum over everything from
    /// `start` on is to be stored at `start + offset`.
    Partial {
        /// Bytes from the frame's start to the layer 4 header.
        start: u16,
        /// Bytes from `start` to the checksum field: 16 for TCP, 6 for UDP.
        offset: u16,
    },
}

/// How one large frame is to be cut. Its checksum is [`Checksum::Partial`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// The protocol that is cut.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last (TCP's MSS). Never 0.
    pub size: u16,
}

/// The protocols whose large frames are carried whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    TcpV4,
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    TcpV6,
    /// UDP of either family, cut into datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}
