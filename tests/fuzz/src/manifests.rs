//! Any text as manifests: what is let through must be something that the model can take, compile and forget again.

use std::net::{Ipv4Addr, Ipv6Addr};

use millrace_fastpath::tables::Gateway;
use millrace_fastpath::wire::MacAddr;
use millrace_model::{Model, ModelConfig};
use millrace_source::manifest;

/// Runs one input.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = match manifest::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for rejected in &parsed.rejected {
        assert!(!rejected.error.to_string().is_empty());
    }
    let mut model = empty_model();
    let without = model.compile();
    for (_, object) in parsed.objects.clone() {
        model.apply(object);
    }
    let with = model.compile();
    // Once more in the other order: the last of each name is another one now, but nothing may break.
    for (_, object) in parsed.objects.clone().into_iter().rev() {
        model.apply(object);
    }
    let _ = model.compile();
    for (_, object) in parsed.objects {
        model.delete(object.kind(), object.name());
    }
    let _ = model.compile();
    assert_eq!(model.objects(), 0, "what was deleted is gone");
    assert!(!model.has_changes(), "what was compiled is not stale");
    drop((without, with));
}

fn empty_model() -> Model {
    let gateway = Gateway {
        mac: MacAddr([2, 0x4d, 0x52, 0, 0, 1]),
        ipv4: Ipv4Addr::new(169, 254, 1, 1),
        ipv6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x4d, 0x52ff, 0xfe00, 1),
    };
    Model::new(ModelConfig::new("node-1", gateway))
}
