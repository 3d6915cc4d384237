//! NetworkPolicies, read as strictly as the API server does it (`pkg/apis/networking/validation`).

use super::Manifest;
use super::field::{self, FieldError, wrong};
use super::metadata::Metadata;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_model::{
    LabelTest, NetworkPolicy, Object, ObjectName, PolicyNumbers, PolicyPeer, PolicyPort, PolicyRule,
    Requirement, Selector,
};
use serde::Deserialize;

/// `networking.k8s.io/v1` NetworkPolicy.
#[derive(Debug, Deserialize)]
pub(crate) struct PolicyManifest {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<v1::NetworkPolicySpec>,
}

impl Manifest for PolicyManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.namespaced()?;
        Ok(Object::NetworkPolicy(policy_of(name, self.spec.unwrap_or_default())?))
    }
}

fn policy_of(name: ObjectName, spec: v1::NetworkPolicySpec) -> Result<NetworkPolicy, FieldError> {
    let (ingress, egress) = (spec.ingress.unwrap_or_default(), spec.egress.unwrap_or_default());
    let [for_ingress, for_egress] = directions(spec.policy_types.as_deref(), !egress.is_empty())?;
    let ingress = ingress.into_iter().enumerate().map(|(at, rule)| {
        rule_of(&format!("spec.ingress[{at}]"), "from", rule.from.unwrap_or_default(), rule.ports)
    });
    let egress = egress.into_iter().enumerate().map(|(at, rule)| {
        rule_of(&format!("spec.egress[{at}]"), "to", rule.to.unwrap_or_default(), rule.ports)
    });
    let ingress = ingress.collect::<Result<Box<[_]>, _>>()?;
    let egress = egress.collect::<Result<Box<[_]>, _>>()?;
    Ok(NetworkPolicy {
        name,
        pods: selector("spec.podSelector", spec.pod_selector.unwrap_or_default())?,
        ingress: for_ingress.then_some(ingress),
        egress: for_egress.then_some(egress),
    })
}

/// Whether it speaks of ingress and of egress.
fn directions(types: Option<&[String]>, has_egress: bool) -> Result<[bool; 2], FieldError> {
    let types = types.unwrap_or_default();
    if types.is_empty() {
        return Ok([true, has_egress]);
    }
    if let Some(at) = types.iter().position(|found| !matches!(found.as_str(), "Ingress" | "Egress")) {
        return Err(wrong(format!("spec.policyTypes[{at}]"), &types[at], "Ingress or Egress"));
    }
    Ok(["Ingress", "Egress"].map(|wanted| types.iter().any(|found| found == wanted)))
}

fn rule_of(
    path: &str,
    ends: &str,
    peers: Vec<v1::NetworkPolicyPeer>,
    ports: Option<Vec<v1::NetworkPolicyPort>>,
) -> Result<PolicyRule, FieldError> {
    let peers = peers.into_iter().enumerate();
    let peers = peers.map(|(at, peer)| peer_of(&format!("{path}.{ends}[{at}]"), peer));
    let ports = ports.into_iter().flatten().enumerate();
    let ports = ports.map(|(at, port)| port_of(&format!("{path}.ports[{at}]"), port));
    Ok(PolicyRule { peers: peers.collect::<Result<_, _>>()?, ports: ports.collect::<Result<_, _>>()? })
}

fn peer_of(path: &str, peer: v1::NetworkPolicyPeer) -> Result<PolicyPeer, FieldError> {
    const ONE: &str = "a peer: selectors of pods, of namespaces or of both, or an ipBlock";
    match (peer.ip_block, peer.namespace_selector, peer.pod_selector) {
        (Some(block), None, None) => range_of(&format!("{path}.ipBlock"), &block),
        (Some(block), _, _) => Err(wrong(format!("{path}.ipBlock"), block.cidr, "alone in its peer")),
        (None, None, None) => Err(wrong(path, "{}", ONE)),
        (None, namespaces, pods) => {
            let chosen = |name: &str, given: Option<LabelSelector>| {
                given.map(|given| selector(&format!("{path}.{name}"), given)).transpose()
            };
            Ok(PolicyPeer::Pods {
                namespaces: chosen("namespaceSelector", namespaces)?,
                pods: chosen("podSelector", pods)?,
            })
        }
    }
}

fn range_of(path: &str, block: &v1::IPBlock) -> Result<PolicyPeer, FieldError> {
    let net = field::range(|| format!("{path}.cidr"), &block.cidr)?;
    let parts = block.except.iter().flatten().enumerate().map(|(at, text)| {
        let path = format!("{path}.except[{at}]");
        let part = field::range(|| path.clone(), text)?;
        if is_part(&part, &net) { Ok(part) } else { Err(wrong(path, text, "a part of the block's cidr")) }
    });
    Ok(PolicyPeer::Range { net, except: parts.collect::<Result<_, _>>()? })
}

fn is_part(part: &IpNet, whole: &IpNet) -> bool {
    whole.contains(part) && part.prefix_len() > whole.prefix_len()
}

fn port_of(path: &str, port: v1::NetworkPolicyPort) -> Result<PolicyPort, FieldError> {
    let protocol = field::protocol(|| format!("{path}.protocol"), port.protocol.as_deref())?;
    let numbers = match (port.port, port.end_port) {
        (None, None) => PolicyNumbers::All,
        (Some(IntOrString::Int(first)), last) => {
            let first = field::port(|| format!("{path}.port"), first)?;
            let last = last
                .map_or(Ok(first), |last| field::port(|| format!("{path}.endPort"), last))
                .and_then(|last| {
                    let wrong = || wrong(format!("{path}.endPort"), last, "at least the port");
                    if last >= first { Ok(last) } else { Err(wrong()) }
                })?;
            PolicyNumbers::Range(first, last)
        }
        (Some(IntOrString::String(name)), None) if is_service_name(&name) => {
            PolicyNumbers::Named(name.into())
        }
        (Some(IntOrString::String(name)), None) => {
            return Err(wrong(format!("{path}.port"), name, "a number or the name of a port"));
        }
        (_, Some(last)) => return Err(wrong(format!("{path}.endPort"), last, "beside a port's number")),
    };
    Ok(PolicyPort { protocol, numbers })
}

/// RFC 6335 section 5.1.
fn is_service_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(legal)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

fn selector(path: &str, selector: LabelSelector) -> Result<Selector, FieldError> {
    let exact = selector.match_labels.into_iter().flatten();
    let exact = exact
        .map(|(key, value)| Ok(Requirement { key: key.into(), test: LabelTest::In([value.into()].into()) }));
    let expressions = selector.match_expressions.into_iter().flatten().enumerate();
    let expressions =
        expressions.map(|(at, one)| requirement(&format!("{path}.matchExpressions[{at}]"), one));
    Ok(Selector(exact.chain(expressions).collect::<Result<_, FieldError>>()?))
}

fn requirement(path: &str, asked: LabelSelectorRequirement) -> Result<Requirement, FieldError> {
    let values: Box<[Box<str>]> = asked.values.into_iter().flatten().map(Into::into).collect();
    let test = match (asked.operator.as_str(), values.is_empty()) {
        ("In", false) => LabelTest::In(values),
        ("NotIn", false) => LabelTest::NotIn(values),
        ("Exists", true) => LabelTest::Exists,
        ("DoesNotExist", true) => LabelTest::DoesNotExist,
        ("In" | "NotIn", true) => return Err(wrong(format!("{path}.values"), "[]", "a list with values")),
        ("Exists" | "DoesNotExist", false) => {
            return Err(wrong(format!("{path}.values"), values.join(", "), "empty, as the operator has it"));
        }
        (other, _) => {
            let expected = "one of In, NotIn, Exists, DoesNotExist";
            return Err(wrong(format!("{path}.operator"), other, expected));
        }
    };
    Ok(Requirement { key: asked.key.into(), test })
}
