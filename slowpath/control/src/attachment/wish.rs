//! What a pod wishes for its interface, and what becomes of it.

use super::AttachError;
use crate::control::Control;
use millrace_api::{AttachmentRequest, PodIdentity};
use millrace_config::{ContainerPortKind, DefaultPort, InvalidValue, Source};
use millrace_fastpath::port::Frame;
use millrace_model::{ObjectName, Pod};

/// What a container runtime calls a pod's first interface: the one that the pod's annotations are about, and that has the
/// pod's addresses.
pub(super) const FIRST: &str = "eth0";

/// What is decided about an attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    pub(super) kind: ContainerPortKind,
    pub(super) uid: Option<u32>,
}

impl<F: Frame> Control<F> {
    /// Decides by the pod's annotations, the network and the configuration, in this order.
    pub(super) fn wish(&self, request: &AttachmentRequest) -> Result<Wish, AttachError> {
        let wrong = |field| {
            let id = request.id.clone();
            move |source: InvalidValue| AttachError::Value { id, field, source }
        };
        let known = self.annotated_pod(request);
        let annotated = known.and_then(|pod| pod.port.kind.as_deref()).map(str::parse::<ContainerPortKind>);
        let kind = match annotated.transpose().map_err(wrong("annotation millrace.io/port"))? {
            Some(kind) => kind,
            None => match request.kind {
                Some(kind) => kind.try_into().map_err(wrong("kind"))?,
                None => self.default_kind(),
            },
        };
        let uid = known.and_then(|pod| pod.port.vhost_user_uid.as_deref()).map(parse_uid);
        Ok(Wish { kind, uid: uid.transpose().map_err(wrong("annotation millrace.io/vhost-user-uid"))? })
    }

    fn default_kind(&self) -> ContainerPortKind {
        match self.config.cni.default_port {
            DefaultPort::Kind(kind) => kind,
            DefaultPort::Auto => self.driver.container_kind(),
        }
    }

    /// Whether an API server is yet to tell of the pod whose annotations are about this attachment. The kubelet may hear of a pod
    /// earlier than we do, and mirrors a static one in the API only once it is about to run.
    pub fn awaits_pod(&self, request: &AttachmentRequest) -> bool {
        let is_first = request.id.if_name.as_str() == FIRST && request.pod.is_some();
        let is_told = matches!(self.config.source, Source::Kubernetes(_));
        is_first && is_told && self.annotated_pod(request).is_none()
    }

    /// The pod whose annotations are about this attachment, if it is known.
    pub(super) fn annotated_pod(&self, request: &AttachmentRequest) -> Option<&Pod> {
        let is_first = request.id.if_name.as_str() == FIRST;
        request.pod.as_ref().filter(|_| is_first).and_then(|pod| self.known_pod(pod))
    }

    /// The pod's object, unless it is that of an earlier pod of the same name.
    fn known_pod(&self, pod: &PodIdentity) -> Option<&Pod> {
        let known = self.model.pod(&ObjectName::new(&*pod.namespace, &*pod.name))?;
        let same = |uid: &String| known.port.uid.as_ref().is_none_or(|known| known == uid);
        pod.uid.as_ref().is_none_or(same).then_some(known)
    }
}

fn parse_uid(text: &str) -> Result<u32, InvalidValue> {
    text.parse().map_err(|_| InvalidValue::Form {
        value: text.to_owned(),
        expected: "a user id: a number from 0 to 4294967295",
    })
}
