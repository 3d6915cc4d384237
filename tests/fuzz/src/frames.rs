//! Any bytes as a frame: parsed, and answered as the pipeline would.
//!
//! The first byte says how much of the frame lies in its first segment; the second, whether an IPv4 header's checksum is
//! made right, without which hardly any input gets past it.

mod seeds;

pub use seeds::{seed_frames, write as write_seeds};

use millrace_fastpath::wire::icmp_error::{IcmpError, Problem, may_be_sent, quote_len};
use millrace_fastpath::wire::ndisc::{self, Envelope};
use millrace_fastpath::wire::parse::{Addresses, Extent, parse_ip};
use millrace_fastpath::wire::tcp_reset::Reset;
use millrace_fastpath::wire::{Class, L4Kind, MacAddr, Parsed, arp, ipv4, parse, sctp, tcp};

/// Bytes of the frame's Ethernet header.
const ETHERNET: usize = 14;

/// Runs one input.
pub fn check(data: &[u8]) {
    let [cut, seal, frame @ ..] = data else { return };
    let mut frame = frame.to_vec();
    if seal & 1 != 0 {
        seal_ipv4(&mut frame);
    }
    let head = if *cut == 0 { &frame[..] } else { &frame[..frame.len().min(usize::from(*cut))] };
    match parse(head, frame.len()) {
        Ok(Class::Ip(parsed)) => {
            assert_consistent(head, frame.len(), &parsed);
            answer(head, &parsed);
            read_layer_4(head, &parsed);
        }
        Ok(Class::Ndisc(parsed)) => {
            assert_consistent(head, frame.len(), &parsed);
            read_neighbour_discovery(head, &parsed);
        }
        Ok(Class::Arp { offset, .. }) => {
            let _ = arp::Header::new_checked(&head[usize::from(offset)..]);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Makes the checksum of the IPv4 header right that the frame seems to have.
fn seal_ipv4(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(ETHERNET..) else { return };
    let len = usize::from(ip.first().copied().unwrap_or(0) & 0xf) * 4;
    if len == ipv4::LEN
        && let Ok(mut header) = ipv4::HeaderMut::new_checked(ip)
    {
        header.fill_checksum();
    }
}

/// What the pipeline relies on, whatever the bytes.
fn assert_consistent(head: &[u8], total_len: usize, parsed: &Parsed) {
    let (l3, l4, end) = (usize::from(parsed.l3), usize::from(parsed.l4), parsed.ip_total as usize);
    assert!(l3 + end <= total_len, "the packet ends within the frame");
    assert!(l3 < l4 && l4 <= head.len() && l4 - l3 <= end, "layer 4 begins within head and packet");
    assert_eq!(parsed.l4_len() as usize, end - (l4 - l3));
    let needed = match parsed.kind {
        L4Kind::Tcp => tcp::LEN,
        L4Kind::Sctp => 16,
        L4Kind::Fragment | L4Kind::Other => 0,
        _ => 8,
    };
    assert!(head.len() - l4 >= needed && end - (l4 - l3) >= needed, "layer 4's header is there");
}

/// Whatever is said about a packet can be parsed again, and nothing is ever said about it in turn.
fn answer(head: &[u8], parsed: &Parsed) {
    let mac = MacAddr(*head.first_chunk().unwrap_or(&[0; 6]));
    let problem = Problem::TooBig { mtu: 1280 };
    if may_be_sent(problem, parsed, mac) {
        let error = IcmpError { problem, addresses: parsed.addresses.reversed() };
        let end = (usize::from(parsed.l3) + parsed.ip_total as usize).min(head.len());
        let offending = &head[usize::from(parsed.l3)..end];
        let mut packet = vec![0; error.overhead()];
        packet.extend(&offending[..quote_len(parsed.family(), offending.len())]);
        error.emit(&mut packet, 1).expect("there is room for the headers");
        let about = parse_ip(&packet, packet.len(), Extent::Whole).expect("our own error is well-formed");
        assert_eq!(about.kind, L4Kind::IcmpError);
        assert!(!may_be_sent(problem, &about, mac));
        let quoted = parse_ip(&packet[error.overhead()..], packet.len() - error.overhead(), Extent::Quoted);
        assert_eq!(quoted.map(|quoted| quoted.addresses), Ok(parsed.addresses));
    }
    if let Some(reset) = Reset::answering(head, parsed) {
        let mut packet = vec![0; reset.packet_len()];
        reset.emit(&mut packet).expect("there is room for the packet");
        let about = parse_ip(&packet, packet.len(), Extent::Whole).expect("our own reset is well-formed");
        assert_eq!(Reset::answering(&packet, &about), None, "resets are not answered");
    }
}

/// Reads what lies behind the ports.
fn read_layer_4(head: &[u8], parsed: &Parsed) {
    let l4 = &head[usize::from(parsed.l4)..];
    match parsed.kind {
        L4Kind::Tcp => {
            if let Ok(header) = tcp::Header::new_checked(l4) {
                assert!(header.options().count() <= tcp::MAX_LEN - tcp::LEN);
                let _ = (header.maximum_segment_size(), header.window_scale());
            }
        }
        L4Kind::Sctp => {
            let header = sctp::Header::new_checked(l4).expect("the parser saw the header");
            assert!(header.first_chunk().is_some());
        }
        L4Kind::IcmpError => {
            let quote = l4.get(8..).unwrap_or_default();
            if let Ok(quoted) = parse_ip(quote, quote.len(), Extent::Quoted) {
                assert!(usize::from(quoted.l4) <= quote.len());
            }
        }
        _ => {}
    }
}

fn read_neighbour_discovery(head: &[u8], parsed: &Parsed) {
    let Addresses::V6 { source, destination } = parsed.addresses else {
        panic!("neighbour discovery is IPv6's");
    };
    let start = usize::from(parsed.l4);
    let end = (start + parsed.l4_len() as usize).min(head.len());
    let mut message = head[start..end].to_vec();
    // Hardly any input has a right checksum.
    [message[2], message[3]] = [0, 0];
    let len = message.len() as u32;
    let pseudo = millrace_fastpath::wire::Sum::pseudo_v6(source, destination, parsed.protocol, len);
    [message[2], message[3]] = pseudo.add_bytes(&message).checksum();
    let envelope = Envelope { source, destination, hop_limit: ndisc::HOP_LIMIT };
    if let Err(error) = ndisc::Header::new_checked(&message, &envelope) {
        assert!(!matches!(error, ndisc::NdiscError::Checksum(_)), "the checksum was made right");
    }
}
