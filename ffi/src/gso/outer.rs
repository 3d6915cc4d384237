//! The outer headers of an encapsulated frame: Ethernet, IP without options or extensions, UDP and VXLAN.

use super::{get, put};
use crate::checksum::Sum;
use crate::mbuf::UDP_CHECKSUM;
use crate::plain_ip::{L3, PlainIp};

/// Bytes of UDP's and VXLAN's headers.
const UDP_AND_VXLAN: usize = 16;

/// Where the outer UDP header begins, when so many bytes stand before the inner frame.
pub(crate) fn udp_offset(outer: usize) -> usize {
    outer.saturating_sub(UDP_AND_VXLAN)
}

/// Makes the outer headers of one piece of a large frame right: lengths, identification, IPv4's checksum, and what the UDP
/// checksum's field holds until it is made. `datagram`: bytes from the UDP header on. `index`: which piece, from 0.
pub(super) fn renumber(head: &mut [u8], outer: usize, datagram: u16, index: usize) {
    let l4 = udp_offset(outer);
    measure(head, l4, datagram, index);
    let field = l4 + usize::from(UDP_CHECKSUM);
    if get(head, field) != 0 {
        put(head, field, pseudo_sum(head, l4, datagram));
    }
}

/// The same for headers whose UDP checksum is to be made in any case. `l4`: where UDP's begins.
pub(super) fn renumber_with_checksum(head: &mut [u8], l4: usize, datagram: u16, index: usize) {
    measure(head, l4, datagram, index);
    put(head, l4 + usize::from(UDP_CHECKSUM), pseudo_sum(head, l4, datagram));
}

/// Whether the outer packet is IPv6.
pub(crate) fn is_v6(l4: usize) -> bool {
    PlainIp { l4 }.is_v6()
}

fn measure(head: &mut [u8], l4: usize, datagram: u16, index: usize) {
    if is_v6(l4) {
        put(head, L3 + 4, datagram);
    } else {
        put(head, L3 + 2, (l4 - L3) as u16 + datagram);
        let id = get(head, L3 + 4).wrapping_add(index as u16);
        put(head, L3 + 4, id);
        put(head, L3 + 10, 0);
        let mut sum = Sum::default();
        sum.add(&head[L3..l4]);
        put(head, L3 + 10, sum.checksum());
    }
    put(head, l4 + 4, datagram);
}

fn pseudo_sum(head: &[u8], l4: usize, datagram: u16) -> u16 {
    PlainIp { l4 }.pseudo(head, 17, datagram).folded()
}
