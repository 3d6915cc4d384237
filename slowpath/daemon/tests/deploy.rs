//! The manifests in `config/deploy`: as kustomize renders them they are valid for Kubernetes to the last field, and one with
//! the programs that they run.
//!
//! The overlays are rendered here by a few rules of our own, and by `kubectl kustomize` where there is one that knows
//! the format (1.21 and later); both must say the same. What this does not show: that a cluster's admission lets the
//! objects in (`kubectl apply --dry-run`, even the client's, asks a server which kinds there are).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use millrace_config::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/deploy")
}

fn documents(file: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap()
}

const OVERLAYS: [&str; 3] = ["base", "overlays/af-xdp", "overlays/dpdk"];

/// The objects of a base or an overlay, by kind.
type Rendered = BTreeMap<String, Value>;

/// What kustomize makes of a directory, as far as ours ask for it: resources, a namespace that they have anyhow, and patches
/// by file.
fn render(directory: &Path) -> Rendered {
    let kustomization = documents(&directory.join("kustomization.yaml")).remove(0);
    for field in kustomization.as_object().unwrap().keys() {
        let known = ["apiVersion", "kind", "namespace", "resources", "patches"];
        assert!(known.contains(&field.as_str()), "{field} is not rendered here");
    }
    let listed = |field: &str| kustomization[field].as_array().cloned().unwrap_or_default();
    let mut rendered = Rendered::new();
    for resource in listed("resources") {
        let path = directory.join(resource.as_str().unwrap());
        let found = match path.is_dir() {
            true => render(&path),
            false => documents(&path).into_iter().map(|one| (kind_of(&one), one)).collect(),
        };
        for (kind, object) in found {
            assert!(rendered.insert(kind, object).is_none(), "two objects of a kind: {resource}");
        }
    }
    for patch in listed("patches") {
        for change in documents(&directory.join(patch["path"].as_str().unwrap())) {
            let object = rendered.get_mut(&kind_of(&change)).expect("it patches an object that is there");
            assert_eq!(object["metadata"]["name"], change["metadata"]["name"], "{patch}");
            merge(object, &change);
        }
    }
    rendered
}

fn kind_of(object: &Value) -> String {
    object["kind"].as_str().unwrap().to_owned()
}

/// A strategic merge: of lists with a key, entries of the same key are merged; others are replaced
/// (`patchMergeKey` in k8s.io/api/core/v1/types.go).
fn merge(object: &mut Value, change: &Value) {
    let (Value::Object(object), Value::Object(change)) = (object, change) else { panic!("not objects") };
    for (name, value) in change {
        let key = match name.as_str() {
            "containers" | "initContainers" | "volumes" | "env" => Some("name"),
            "volumeMounts" => Some("mountPath"),
            _ => None,
        };
        match (object.get_mut(name), key) {
            (Some(Value::Array(list)), Some(key)) => {
                for change in value.as_array().unwrap() {
                    match list.iter_mut().find(|entry| entry[key] == change[key]) {
                        Some(entry) => merge(entry, change),
                        None => list.push(change.clone()),
                    }
                }
            }
            (Some(own @ Value::Object(_)), _) => merge(own, value),
            _ => {
                object.insert(name.clone(), value.clone());
            }
        }
    }
}

/// What the real kustomize says, where there is one that is new enough; lists with keys in their order.
fn render_by_kubectl(directory: &Path) -> Option<Rendered> {
    let output = std::process::Command::new("kubectl").arg("kustomize").arg(directory).output().ok()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        assert!(complaint.contains("patchesStrategicMerge"), "{complaint}");
        return None;
    }
    assert!(complaint.is_empty(), "{complaint}");
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    Some(objects.into_iter().map(|object| (kind_of(&object), object)).collect())
}

/// Sorts lists with keys: new entries may be put first or last.
fn sorted(mut value: Value) -> Value {
    match &mut value {
        Value::Array(list) => {
            list.iter_mut().for_each(|entry| *entry = sorted(entry.take()));
            if list.iter().all(Value::is_object) {
                list.sort_by_key(|entry| (entry["mountPath"].to_string(), entry["name"].to_string()));
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| *field = sorted(field.take())),
        _ => {}
    }
    value
}

fn rendered() -> Vec<(&'static str, Rendered)> {
    OVERLAYS.into_iter().map(|name| (name, render(&deploy().join(name)))).collect()
}

fn base(kind: &str) -> Value {
    render(&deploy().join("base")).remove(kind).unwrap()
}

/// Fields that a type does not know are lost on the way through it.
fn lost(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    Some(after) => lost(value, after, &format!("{path}.{name}"), found),
                    // An empty object may mean the default, and is then not written.
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => found.push(format!("{path}.{name}")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                lost(before, after, &format!("{path}[{at}]"), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{path}: {before} became {after}")),
    }
}

fn strict<T: DeserializeOwned + Serialize>(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match serde_json::from_value::<T>(document.clone()) {
        Ok(typed) => lost(document, &serde_json::to_value(typed).unwrap(), "", &mut found),
        Err(error) => found.push(error.to_string()),
    }
    found
}

#[test]
fn every_field_of_every_rendered_object_is_one_that_kubernetes_knows() {
    for (overlay, objects) in rendered() {
        assert_eq!(objects.len(), 6, "{overlay}");
        for (kind, object) in objects {
            let wrong = match kind.as_str() {
                "Namespace" => strict::<Namespace>(&object),
                "ServiceAccount" => strict::<ServiceAccount>(&object),
                "ClusterRole" => strict::<ClusterRole>(&object),
                "ClusterRoleBinding" => strict::<ClusterRoleBinding>(&object),
                "ConfigMap" => strict::<ConfigMap>(&object),
                "DaemonSet" => strict::<DaemonSet>(&object),
                kind => vec![format!("an unexpected kind {kind}")],
            };
            assert!(wrong.is_empty(), "{overlay}: {kind}: {wrong:?}");
        }
    }
    let mut typo = base("DaemonSet");
    typo["spec"]["template"]["spec"]["hostNetwrok"] = json!(true);
    assert_eq!(strict::<DaemonSet>(&typo), [".spec.template.spec.hostNetwrok"]);
}

#[test]
fn kustomize_renders_the_same() {
    let mut compared = 0;
    for (overlay, objects) in rendered() {
        let Some(theirs) = render_by_kubectl(&deploy().join(overlay)) else { continue };
        let names = |all: &Rendered| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&objects), names(&theirs), "{overlay}");
        for (kind, object) in objects {
            assert_eq!(sorted(object), sorted(theirs[&kind].clone()), "{overlay}: {kind}");
        }
        compared += 1;
    }
    match compared {
        0 => eprintln!("not compared: there is no kubectl here that knows the format (1.21 and later)"),
        all => assert_eq!(all, OVERLAYS.len()),
    }
}

#[test]
fn the_role_has_the_verbs_that_are_used_and_no_others() {
    let mut granted = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for rule in base("ClusterRole")["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            for group in texts(&rule["apiGroups"]) {
                granted.extend(
                    texts(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {resource}.{group}")),
                );
            }
        }
    }
    let used: BTreeSet<String> = millrace_source::used_verbs().into_iter().collect();
    assert_eq!(granted, used);
}

/// The container of the daemon, and that which comes before it.
fn containers(objects: &Rendered) -> [Value; 2] {
    let spec = &objects["DaemonSet"]["spec"]["template"]["spec"];
    [&spec["containers"], &spec["initContainers"]].map(|all| {
        assert_eq!(all.as_array().unwrap().len(), 1);
        all[0].clone()
    })
}

#[test]
fn every_configuration_is_valid_and_its_paths_are_mounted() {
    for (overlay, objects) in rendered() {
        let text = objects["ConfigMap"]["data"]["millrace.yaml"].as_str().unwrap();
        let config: Config = millrace_config::parse(Path::new(overlay), text).unwrap();
        let [container, init] = containers(&objects);
        let mounts: Vec<PathBuf> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["mountPath"].as_str().unwrap().into())
            .collect();
        assert!(matches!(config.source, millrace_config::Source::Kubernetes(_)), "{overlay}");
        let conf_file = config.cni.conf_file.clone().expect("runtimes are to find the plugin");
        for path in
            [&config.api.socket, &config.state_directory, &config.cni.vhost_user_directory, &conf_file]
        {
            assert!(mounts.iter().any(|mount| path.starts_with(mount)), "{overlay}: {}", path.display());
        }
        let hugepages = container["resources"]["limits"]["hugepages-2Mi"].as_str().unwrap();
        let limit: u32 = hugepages.strip_suffix("Mi").unwrap().parse().unwrap();
        // The flow table is in hugepages, too.
        assert!(config.memory.mebibytes.get() + 128 <= limit, "{hugepages}");
        let volumes = objects["DaemonSet"]["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let names: BTreeSet<&str> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        for mount in [&container, &init].into_iter().flat_map(|of| of["volumeMounts"].as_array().unwrap()) {
            assert!(names.contains(mount["name"].as_str().unwrap()), "{mount}");
        }
    }
}

#[test]
fn the_daemon_has_cpus_and_hugepages_of_its_own_and_is_privileged_for_vfio_only() {
    for (overlay, objects) in rendered() {
        let [container, init] = containers(&objects);
        for container in [&container, &init] {
            let resources = &container["resources"];
            assert_eq!(resources["requests"], resources["limits"], "of the class Guaranteed");
            let cpus = resources["limits"]["cpu"].as_str().unwrap();
            assert!(cpus.parse::<u32>().is_ok(), "{cpus} is no whole number");
            assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], json!(true));
        }
        let is_privileged = container["securityContext"]["privileged"] == json!(true);
        assert_eq!(is_privileged, overlay == "overlays/dpdk", "{overlay}");
        assert!(init["securityContext"]["privileged"].is_null(), "{overlay}");
    }
}
