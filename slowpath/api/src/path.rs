//! The paths of the API.

use crate::attachments::AttachmentId;

/// General state.
pub const STATUS: &str = "/v1/status";
/// Ports.
pub const PORTS: &str = "/v1/ports";
/// Attachments of containers.
pub const ATTACHMENTS: &str = "/v1/attachments";
/// Removal of attachments that a container runtime no longer knows.
pub const ATTACHMENTS_GC: &str = "/v1/attachments/gc";
/// Services.
pub const SERVICES: &str = "/v1/services";
/// The flow table.
pub const FLOWS: &str = "/v1/flows";
/// Other nodes.
pub const PEERS: &str = "/v1/peers";
/// The fast path's routes.
pub const ROUTES: &str = "/v1/routes";
/// Lost frames by reason.
pub const DROPS: &str = "/v1/drops";
/// Worker threads.
pub const WORKERS: &str = "/v1/workers";
/// Sizes and generations of the tables.
pub const TABLES: &str = "/v1/tables";
/// Objects that could not be used.
pub const OBJECT_ERRORS: &str = "/v1/objects/errors";

/// What a packet would meet.
pub const TRACE: &str = "/v1/trace";

/// One port.
pub fn port(name: &str) -> String {
    format!("{PORTS}/{}", encoded(name))
}

/// One attachment.
pub fn attachment(id: &AttachmentId) -> String {
    format!("{ATTACHMENTS}/{}/{}", encoded(id.container_id.as_str()), encoded(id.if_name.as_str()))
}

/// One service.
pub fn service(namespace: &str, name: &str) -> String {
    format!("{SERVICES}/{}/{}", encoded(namespace), encoded(name))
}

/// A path with a query of those fields that have a value.
pub(crate) fn with_query(path: &str, fields: &[(&str, Option<String>)]) -> String {
    let mut path = path.to_owned();
    let mut separator = '?';
    for (name, value) in fields.iter().filter_map(|(name, value)| Some((name, value.as_deref()?))) {
        path.push(separator);
        path.push_str(name);
        path.push('=');
        path.push_str(&encoded(value));
        separator = '&';
    }
    path
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}
