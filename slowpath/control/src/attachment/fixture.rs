//! Attachments for tests.

use super::store::{State, Stored};
use super::{host_end, port_name};
use millrace_api::{AddressSource, Attachment, AttachmentId, AttachmentRequest};
use millrace_config::{MacAddr, Mtu, PortKind};

pub(crate) fn id(container: &str) -> AttachmentId {
    AttachmentId { container_id: container.parse().unwrap(), if_name: "eth0".parse().unwrap() }
}

pub(crate) fn request(container: &str) -> AttachmentRequest {
    AttachmentRequest {
        id: id(container),
        netns: format!("/run/netns/{container}").into(),
        network: "pods".to_owned(),
        pod: None,
        kind: Some(PortKind::Tap),
        mac: None,
        mtu: None,
        addresses: AddressSource::Own { requested: vec![] },
        routes: None,
        bandwidth: None,
        host_ports: vec![],
    }
}

pub(super) fn stored(container: &str, number: u8) -> Stored {
    let request = request(container);
    let attachment = Attachment {
        id: request.id.clone(),
        network: request.network.clone(),
        netns: request.netns.clone(),
        pod: None,
        port: port_name(&request.id).unwrap(),
        kind: PortKind::Tap,
        mac: MacAddr::derived_from(container),
        mtu: Mtu::default(),
        addresses: vec![format!("10.1.0.{number}").parse().unwrap()],
        gateways: vec![],
        routes: vec![],
        host_interface: None,
        vhost_user: None,
    };
    Stored { state: State::Adding, host_end: host_end(&request.id).unwrap(), request, attachment, uid: None }
}
