use proptest::prelude::*;

use super::*;

const TCP: u8 = IpProtocol::TCP.0;

/// One extension header of `words` × 8 bytes that is followed by `next`.
fn header(next: IpProtocol, words: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(words) * 8];
    bytes[..2].copy_from_slice(&[next.0, words - 1]);
    bytes
}

fn upper(protocol: IpProtocol, len: usize) -> Result<Upper, ExtensionError> {
    Ok(Upper { protocol, len, fragment: None })
}

#[test]
fn layer_4_right_behind_the_fixed_header_needs_no_step() {
    assert_eq!(walk(IpProtocol::TCP, &[]), upper(IpProtocol::TCP, 0));
}

#[test]
fn every_kind_of_header_is_stepped_over() {
    let mut chain = header(IpProtocol::DESTINATION_OPTIONS, 2);
    chain.extend(header(IpProtocol::ROUTING, 1));
    let mut routing = header(IpProtocol::FRAGMENT, 3);
    routing[2..4].copy_from_slice(&[4, 1]);
    chain.extend(routing);
    chain.extend([IpProtocol::AUTHENTICATION.0, 0, 0, 0, 1, 2, 3, 4]);
    let mut authentication = vec![0; 24];
    authentication[..2].copy_from_slice(&[TCP, 4]);
    chain.extend(authentication);
    let expected = Upper {
        protocol: IpProtocol::TCP,
        len: 16 + 8 + 24 + 8 + 24,
        fragment: Some(Fragment { offset: 0, more: false, identification: 0x0102_0304 }),
    };
    assert_eq!(walk(IpProtocol::HOP_BY_HOP, &chain), Ok(expected));
}

#[test]
fn later_fragment_ends_the_walk_whatever_it_says_follows() {
    let fragment = [IpProtocol::DESTINATION_OPTIONS.0, 0, 0x00, 0x11, 0, 0, 0, 9];
    let expected = Upper {
        protocol: IpProtocol::DESTINATION_OPTIONS,
        len: 8,
        fragment: Some(Fragment { offset: 2, more: true, identification: 9 }),
    };
    assert_eq!(walk(IpProtocol::FRAGMENT, &fragment), Ok(expected));
}

#[test]
fn esp_and_no_next_header_end_the_walk() {
    for last in [IpProtocol::ESP, IpProtocol::NO_NEXT_HEADER] {
        assert_eq!(walk(IpProtocol::HOP_BY_HOP, &header(last, 1)), upper(last, 8));
    }
}

#[test]
fn eight_headers_are_followed_and_nine_are_not() {
    let chain = |count: usize| {
        let mut chain: Vec<u8> =
            (1..count).flat_map(|_| header(IpProtocol::DESTINATION_OPTIONS, 1)).collect();
        chain.extend(header(IpProtocol::UDP, 1));
        chain
    };
    assert_eq!(walk(IpProtocol::DESTINATION_OPTIONS, &chain(8)), upper(IpProtocol::UDP, 64));
    assert_eq!(walk(IpProtocol::DESTINATION_OPTIONS, &chain(9)), Err(ExtensionError::TooMany));
}

#[test]
fn misplaced_and_forbidden_headers_are_refused() {
    let mut chain = header(IpProtocol::HOP_BY_HOP, 1);
    chain.extend(header(IpProtocol::TCP, 1));
    let misplaced = ExtensionError::Misplaced;
    assert_eq!(walk(IpProtocol::DESTINATION_OPTIONS, &chain), Err(misplaced(IpProtocol::HOP_BY_HOP)));
    let fragments = [IpProtocol::FRAGMENT.0, 0, 0, 0, 0, 0, 0, 0, TCP, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(walk(IpProtocol::FRAGMENT, &fragments), Err(misplaced(IpProtocol::FRAGMENT)));
    let route = [TCP, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(walk(IpProtocol::ROUTING, &route), Err(ExtensionError::SourceRoute));
}

proptest! {
    #[test]
    fn chains_agree_with_etherparse(chain in any_chain(), noise in prop::collection::vec(any::<u8>(), 0..40)) {
        let (first, mut bytes) = chain;
        bytes.extend(noise);
        let theirs = etherparse::Ipv6Extensions::from_slice(etherparse::IpNumber(first.0), &bytes);
        if let (Ok(ours), Ok((extensions, next, rest))) = (walk(first, &bytes), theirs) {
            // etherparse leaves what it has no room for, and goes on behind a later fragment's header.
            let later = ours.fragment.is_some_and(|fragment| fragment.offset != 0);
            if extensions.fragment.is_some() == ours.fragment.is_some() && !later && !is_extension(IpProtocol(next.0)) {
                prop_assert_eq!((ours.protocol.0, ours.len), (next.0, bytes.len() - rest.len()));
            }
        }
    }

    #[test]
    fn no_bytes_make_the_walk_leave_them(first: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(upper) = walk(IpProtocol(first), &bytes) {
            prop_assert!(upper.len <= bytes.len());
        }
    }
}

/// Chains of up to 4 headers of any kind but hop-by-hop, with TCP at the end.
fn any_chain() -> impl Strategy<Value = (IpProtocol, Vec<u8>)> {
    let kind = prop::sample::select(vec![
        IpProtocol::DESTINATION_OPTIONS,
        IpProtocol::ROUTING,
        IpProtocol::FRAGMENT,
    ]);
    prop::collection::vec((kind, 1..4_u8), 0..4).prop_map(|chain| {
        let mut next = IpProtocol::TCP;
        let mut bytes = Vec::new();
        for (kind, words) in chain.into_iter().rev() {
            let mut this = header(next, if kind == IpProtocol::FRAGMENT { 1 } else { words });
            this.append(&mut bytes);
            (next, bytes) = (kind, this);
        }
        (next, bytes)
    })
}
