//! From the model's views to the API's types.

use millrace_api::{
    Endpoint, EndpointPool, Frontend, Protocol, Reason, Service, ServicePort, Slice, WhenEmpty,
};
use millrace_fastpath::tables;
use millrace_model::{
    Conditions, EndpointView, Exclusion, FrontendView, ObjectName, PoolView, ServicePortView, ServiceView,
    SliceView, WhyNot,
};

/// A service that this node serves.
pub(super) fn service(view: ServiceView) -> Service {
    Service {
        namespace: view.name.namespace,
        name: view.name.name,
        kind: Some(view.kind.name().to_owned()),
        internal_traffic_policy: Some(view.internal_policy.name().to_owned()),
        external_traffic_policy: Some(view.external_policy.name().to_owned()),
        affinity_seconds: view.affinity_seconds,
        source_ranges: view.source_ranges.iter().map(ToString::to_string).collect(),
        health_check_node_port: view.health_check_node_port,
        not_served: None,
        ports: view.ports.into_iter().map(service_port).collect(),
        flows: None,
    }
}

/// A service that it does not serve.
pub(super) fn excluded(name: &ObjectName, exclusion: &Exclusion) -> Service {
    Service {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        not_served: Some(reason(exclusion.name(), exclusion)),
        ..Service::default()
    }
}

fn service_port(view: ServicePortView) -> ServicePort {
    ServicePort {
        name: view.name,
        protocol: Protocol::from_number(view.protocol.number()),
        port: view.port,
        frontends: view.frontends.into_iter().map(frontend).collect(),
        endpoints: view.endpoints.into_iter().map(endpoint).collect(),
        no_endpoints: view.no_endpoints.map(|why| reason(why.name(), &why)),
        slices: view.slices.iter().map(slice).collect(),
        affinity: None,
    }
}

fn frontend(view: FrontendView) -> Frontend {
    let (inside, outside) = (pool(&view.inside), pool(&view.outside));
    Frontend {
        kind: view.kind.name().to_owned(),
        address: view.address,
        port: view.port,
        usable: inside.usable,
        when_empty: inside.when_empty,
        inside: Some(inside),
        outside: Some(outside),
        keeps_client: view.keeps_client,
        restricted: view.restricted,
        held_by: view.held_by.map(|holder| holder.to_string()),
        contested_by: view.contested_by.iter().map(ToString::to_string).collect(),
    }
}

fn pool(view: &PoolView) -> EndpointPool {
    EndpointPool {
        set: view.set.name().to_owned(),
        usable: count(view.usable),
        when_empty: match view.when_empty {
            tables::WhenEmpty::Reject => WhenEmpty::Reject,
            tables::WhenEmpty::Drop => WhenEmpty::Drop,
        },
    }
}

fn endpoint(view: EndpointView) -> Endpoint {
    let why = |set: Result<(), WhyNot>| set.err().map(|why| reason(why.name(), &why));
    Endpoint {
        address: view.address,
        port: view.port,
        usable: view.usable,
        conditions: conditions(view.conditions),
        node: view.node,
        zone: view.zone,
        pod: view.pod.map(|pod| pod.to_string()),
        slice: Some(view.slice.to_string()),
        not_in_cluster_set: why(view.cluster),
        not_in_local_set: why(view.local),
    }
}

fn slice(view: &SliceView) -> Slice {
    let (endpoints, unused) = match &view.endpoints {
        Ok(endpoints) => (count(*endpoints), None),
        Err(why) => (0, Some(reason(why.name(), why))),
    };
    Slice { name: view.name.to_string(), family: view.family.to_string(), endpoints, unused }
}

fn conditions(conditions: Conditions) -> Vec<String> {
    let all = [
        ("ready", conditions.ready),
        ("serving", conditions.serving),
        ("terminating", conditions.terminating),
    ];
    all.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_owned()).collect()
}

fn reason(name: &str, text: &impl ToString) -> Reason {
    Reason { name: name.to_owned(), text: text.to_string() }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
