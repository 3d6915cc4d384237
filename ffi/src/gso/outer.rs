//! The outer headers of an encapsulated frame: Ethernet, IP without options or extensions, UDP and VXLAN.

use super::{get, put};
use crate::checksum::Sum;
use crate::mbuf::{ETHERNET, Mbuf, UDP_CHECKSUM};
use millrace_fastpath::port::Frame;

/// Bytes of UDP's and VXLAN's headers.
const UDP_AND_VXLAN: usize = 16;
const IPV6: usize = 40;

/// Where the outer UDP header begins, when so many bytes stand before the inner frame.
pub(crate) fn udp_offset(outer: usize) -> usize {
    outer.saturating_sub(UDP_AND_VXLAN)
}

/// Makes the outer headers of one piece of a large frame right: lengths, identification, IPv4's checksum, and what the UDP
/// checksum's field holds until it is made. `index`: which piece, from 0.
pub(super) fn renumber(piece: &mut Mbuf, outer: usize, index: usize) {
    let (l3, l4) = (usize::from(ETHERNET), udp_offset(outer));
    let datagram = (piece.total_len() - l4) as u16;
    let head = piece.head_mut();
    let is_v6 = l4 == l3 + IPV6;
    if is_v6 {
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
    let field = l4 + usize::from(UDP_CHECKSUM);
    if get(head, field) != 0 {
        let mut pseudo = Sum::default();
        pseudo.add(if is_v6 { &head[l3 + 8..l3 + 40] } else { &head[l3 + 12..l3 + 20] });
        pseudo.add_number(17);
        pseudo.add_number(datagram);
        put(head, field, pseudo.folded());
    }
}
