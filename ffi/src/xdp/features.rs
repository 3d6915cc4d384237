//! What a NIC's driver says of its AF_XDP, asked for by generic netlink (Documentation/netlink/specs/netdev.yaml).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// Of `linux/netdev.h`.
const FAMILY: &[u8] = b"netdev\0";
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_ZC_MAX_SEGS: u16 = 4;

/// Bytes of an `nlmsghdr`, and of the `genlmsghdr` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// Bytes of the longest answer that is looked at.
const ANSWER: usize = 8_192;

/// Descriptors that one frame may be in zero-copy mode on an interface of the calling thread's network namespace; 1 where the
/// driver or the kernel does not say.
pub(super) fn zero_copy_parts(ifindex: u32) -> u32 {
    ask(ifindex).ok().flatten().unwrap_or(1)
}

fn ask(ifindex: u32) -> io::Result<Option<u32>> {
    let socket = socket()?;
    let about = request(libc::GENL_ID_CTRL as u16, libc::CTRL_CMD_GETFAMILY as u8, FAMILY_NAME, FAMILY);
    let family = exchange(&socket, &about)?;
    let Some(&[low, high, ..]) = attribute(&family, libc::CTRL_ATTR_FAMILY_ID as u16) else {
        return Ok(None);
    };
    let about = request(u16::from_ne_bytes([low, high]), DEV_GET, DEV_IFINDEX, &ifindex.to_ne_bytes());
    let device = exchange(&socket, &about)?;
    Ok(number(attribute(&device, DEV_ZC_MAX_SEGS)))
}

const FAMILY_NAME: u16 = libc::CTRL_ATTR_FAMILY_NAME as u16;

fn number(value: Option<&[u8]>) -> Option<u32> {
    value.and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A request of generic netlink with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let length = HEADER + GENERIC + 4 + padded;
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&family.to_ne_bytes());
    message.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Sequence number and port: one question at a time on a socket of its own.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[command, 1, 0, 0]);
    message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    message.extend_from_slice(&attribute.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(length, 0);
    message
}

/// The value of an answer's attribute of this type; nothing when it has none, or is an error.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    if i32::from(kind) <= libc::NLMSG_DONE {
        return None;
    }
    let mut rest = message.get(HEADER + GENERIC..)?;
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & libc::NLA_TYPE_MASK as u16 == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a request and gives the first message of the answer, which the kernel has made before the sending returns.
fn exchange(socket: &OwnedFd, request: &[u8]) -> io::Result<Vec<u8>> {
    let fd = socket.as_raw_fd();
    // SAFETY: reads `request`'s bytes only, during the call; without an address it goes to the kernel.
    let sent = unsafe { libc::sendto(fd, request.as_ptr().cast(), request.len(), 0, ptr::null(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0; ANSWER];
    // SAFETY: writes at most `answer`'s bytes, during the call.
    let length = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    answer.truncate(length);
    // What follows belongs to other messages.
    let first = number(Some(&answer)).map_or(0, |length| length as usize);
    answer.truncate(first);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `DEV_GET` with an interface's number, 8 bytes of features, and the attribute `more`.
    fn answer(more: u16) -> Vec<u8> {
        let mut message = vec![0; HEADER + GENERIC];
        message[4..6].copy_from_slice(&30_u16.to_ne_bytes());
        for (kind, value) in
            [(DEV_IFINDEX, &7_u32.to_ne_bytes()[..]), (3, &[9; 8]), (more, &8_u32.to_ne_bytes())]
        {
            message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(value);
        }
        message
    }

    #[test]
    fn the_number_of_descriptors_is_read_where_a_driver_says_it() {
        assert_eq!(number(attribute(&answer(DEV_ZC_MAX_SEGS), DEV_ZC_MAX_SEGS)), Some(8));
        assert_eq!(number(attribute(&answer(5), DEV_ZC_MAX_SEGS)), None);
    }

    #[test]
    fn a_cut_answer_and_an_error_say_nothing() {
        let whole = answer(DEV_ZC_MAX_SEGS);
        for end in 0..whole.len() {
            assert_eq!(number(attribute(&whole[..end], DEV_ZC_MAX_SEGS)), None, "{end}");
        }
        let mut error = whole;
        error[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert_eq!(attribute(&error, DEV_ZC_MAX_SEGS), None);
    }

    #[test]
    fn the_kernel_knows_of_no_zero_copy_on_the_loopback_interface() {
        assert_eq!(ask(1).unwrap(), None);
        assert_eq!(zero_copy_parts(1), 1);
        // The question is understood: the answer is about the interface that was asked for.
        let socket = socket().unwrap();
        let family = exchange(&socket, &request(libc::GENL_ID_CTRL as u16, 3, FAMILY_NAME, FAMILY)).unwrap();
        let family = u16::from_ne_bytes(*attribute(&family, 1).unwrap().first_chunk().unwrap());
        let device = exchange(&socket, &request(family, DEV_GET, DEV_IFINDEX, &1_u32.to_ne_bytes())).unwrap();
        assert_eq!(number(attribute(&device, DEV_IFINDEX)), Some(1));
    }
}
