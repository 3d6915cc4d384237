//! Turning off what a frame without metadata cannot say.
//!
//! An AF_XDP socket sees bytes only: an unfinished checksum or an unsegmented super-frame would leave the pod as
//! a broken packet. So the pod's kernel has to do both before sending. Spoken over ethtool's generic netlink
//! family (`linux/ethtool_netlink.h`), which takes features by name.

use super::{LinkError, Step};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's names (`net/ethtool/common.c`) of the features of a veth that change what its frames look like.
const FEATURES: [&str; 16] = [
    "tx-checksum-ip-generic",
    "tx-checksum-ipv4",
    "tx-checksum-ipv6",
    "tx-checksum-sctp",
    "tx-scatter-gather",
    "tx-scatter-gather-fraglist",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
    "tx-vlan-hw-insert",
    "rx-vlan-hw-parse",
    "rx-vlan-stag-hw-parse",
];

// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
// linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_OMIT_REPLY: u32 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// Turns off checksum, segmentation, receive merging and VLAN offloads of interface `name` in the calling thread's namespace.
pub(super) fn turn_off(name: &str) -> Result<(), LinkError> {
    request(name).map_err(|source| LinkError::kernel(name, Step::Offloads, "ethtool", source))
}

fn request(name: &str) -> io::Result<()> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;

    let query = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
    let answer = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &query)?;
    let family = find_u16(answer.get(GENERIC_HEADER..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID)
        .ok_or_else(|| io::Error::from(Errno::EOPNOTSUPP))?;

    let mut header = attribute(ETHTOOL_A_HEADER_DEV_NAME, &with_zero(name));
    header.extend(attribute(ETHTOOL_A_HEADER_FLAGS, &ETHTOOL_FLAG_OMIT_REPLY.to_ne_bytes()));
    // A bit that is listed without a value is to be cleared; one that is not listed stays.
    let bits: Vec<u8> = FEATURES
        .iter()
        .flat_map(|feature| {
            let bit = attribute(ETHTOOL_A_BITSET_BIT_NAME, &with_zero(feature));
            attribute(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, &bit)
        })
        .collect();
    let wanted = attribute(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, &bits);
    let mut message = attribute(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, &header);
    message.extend(attribute(ETHTOOL_A_FEATURES_WANTED | NLA_F_NESTED, &wanted));
    ask(&socket, family, ETHTOOL_MSG_FEATURES_SET, &message).map(drop)
}

fn with_zero(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// One attribute: length, type, value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends one command and gives the first answer's payload (empty for a mere acknowledgement).
fn ask(socket: &OwnedFd, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length = (HEADER + GENERIC_HEADER + attributes.len()) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]); // Sequence number and port: one question at a time needs neither.
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;

    let mut first = None;
    loop {
        let mut buffer = [0; 16_384];
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, payload) in messages(&buffer[..length]) {
            if kind != NLMSG_ERROR {
                first.get_or_insert_with(|| payload.to_vec());
                continue;
            }
            let code =
                payload.first_chunk().map_or(-(Errno::EBADMSG as i32), |code| i32::from_ne_bytes(*code));
            return if code < 0 {
                Err(io::Error::from_raw_os_error(-code))
            } else {
                Ok(first.unwrap_or_default())
            };
        }
    }
}

/// The messages in a datagram: type and payload.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The first attribute of this type, as a number of 16 bits.
fn find_u16(mut bytes: &[u8], wanted: u16) -> Option<u16> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return value.first_chunk().map(|value| u16::from_ne_bytes(*value));
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}
