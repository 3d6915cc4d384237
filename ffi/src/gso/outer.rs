//! The outer headers of an encapsulated frame: Ethernet, IP without options or extensions, UDP and VXLAN.

use super::{get, put};
use crate::checksum::Sum;
use crate::mbuf::{ETHERNET, UDP_CHECKSUM};

/// Bytes of UDP's and VXLAN's headers.
const UDP_AND_VXLAN: usize = 16;
const IPV6: usize = 40;

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
    l4 == usize::from(ETHERNET) + IPV6
}

fn measure(head: &mut [u8], l4: usize, datagram: u16, index: usize) {
    let l3 = usize::from(ETHERNET);
    if is_v6(l4) {
        put(head, l3 + 4, datagram);
    } else {
        put(head, l3 + 2, (l4 - l3) as u16 + datagram);
        let id = get(head, l3 + 4).wrapping_add(index as u16);
        put(head, l3 + 4, id);
        put(head, l3 + 10, 0);
        let mut sum = Sum::default();
        sum.add(&head[l3..l4]);
        put(head, l3 + 10, sum.checksum());
    }
    put(head, l4 + 4, datagram);
}

fn pseudo_sum(head: &[u8], l4: usize, datagram: u16) -> u16 {
    let l3 = usize::from(ETHERNET);
    let mut pseudo = Sum::default();
    pseudo.add(if is_v6(l4) { &head[l3 + 8..l3 + 40] } else { &head[l3 + 12..l3 + 20] });
    pseudo.add_number(17);
    pseudo.add_number(datagram);
    pseudo.folded()
}
