//! The manifests in `config/deploy`: valid for Kubernetes to the last field, and one with the programs that they run.
//!
//! What this does not show: that kustomize renders them, and that a cluster's admission lets them in.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use millrace_config::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/deploy")
}

fn documents(file: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// All manifests with their files, kustomizations left out.
fn manifests() -> Vec<(PathBuf, Value)> {
    let mut all = Vec::new();
    for directory in ["base", "overlays/af-xdp", "overlays/dpdk"] {
        for entry in std::fs::read_dir(deploy().join(directory)).unwrap() {
            let file = entry.unwrap().path();
            if file.file_name().unwrap() != "kustomization.yaml" {
                all.extend(documents(&file).into_iter().map(|document| (file.clone(), document)));
            }
        }
    }
    all
}

fn of_kind(kind: &str) -> Vec<(PathBuf, Value)> {
    manifests().into_iter().filter(|(_, document)| document["kind"] == kind).collect()
}

fn base(kind: &str) -> Value {
    let found = of_kind(kind).into_iter().find(|(file, _)| file.parent().unwrap().ends_with("base"));
    found.unwrap().1
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
fn every_field_of_every_manifest_is_one_that_kubernetes_knows() {
    let all = manifests();
    assert!(all.len() >= 9, "{}", all.len());
    for (file, document) in all {
        let wrong = match document["kind"].as_str().unwrap() {
            "Namespace" => strict::<Namespace>(&document),
            "ServiceAccount" => strict::<ServiceAccount>(&document),
            "ClusterRole" => strict::<ClusterRole>(&document),
            "ClusterRoleBinding" => strict::<ClusterRoleBinding>(&document),
            "ConfigMap" => strict::<ConfigMap>(&document),
            // A patch has no selector, which the type wants.
            "DaemonSet" if document["spec"]["selector"].is_null() => {
                let mut whole = document.clone();
                whole["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
                strict::<DaemonSet>(&whole)
            }
            "DaemonSet" => strict::<DaemonSet>(&document),
            kind => vec![format!("an unexpected kind {kind}")],
        };
        assert!(wrong.is_empty(), "{}: {wrong:?}", file.display());
    }
    let mut typo = base("DaemonSet");
    typo["spec"]["template"]["spec"]["hostNetwrok"] = json!(true);
    assert_eq!(strict::<DaemonSet>(&typo), [".spec.template.spec.hostNetwrok"]);
}

#[test]
fn kustomizations_name_files_that_are_there_and_patches_name_objects_of_the_base() {
    for directory in ["base", "overlays/af-xdp", "overlays/dpdk"] {
        let directory = deploy().join(directory);
        let kustomization = documents(&directory.join("kustomization.yaml")).remove(0);
        let listed = |field: &str| kustomization[field].as_array().cloned().unwrap_or_default();
        for resource in listed("resources") {
            assert!(directory.join(resource.as_str().unwrap()).exists(), "{resource}");
        }
        for patch in listed("patches") {
            let file = directory.join(patch["path"].as_str().unwrap());
            for document in documents(&file) {
                let patched = base(document["kind"].as_str().unwrap());
                assert_eq!(document["metadata"]["name"], patched["metadata"]["name"], "{}", file.display());
                assert_eq!(document["apiVersion"], patched["apiVersion"], "{}", file.display());
            }
        }
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

fn configs() -> Vec<(PathBuf, Config)> {
    let parse = |(file, document): (PathBuf, Value)| {
        let text = document["data"]["millrace.yaml"].as_str().unwrap().to_owned();
        let config = millrace_config::parse(&file, &text).unwrap();
        (file, config)
    };
    of_kind("ConfigMap").into_iter().map(parse).collect()
}

#[test]
fn every_configuration_is_valid_and_its_paths_are_mounted() {
    let daemon_set = base("DaemonSet");
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    let mounts: Vec<PathBuf> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap().into())
        .collect();
    assert_eq!(configs().len(), 3);
    for (file, config) in configs() {
        assert!(matches!(config.source, millrace_config::Source::Kubernetes(_)), "{}", file.display());
        let conf_file = config.cni.conf_file.clone().expect("runtimes are to find the plugin");
        for path in
            [&config.api.socket, &config.state_directory, &config.cni.vhost_user_directory, &conf_file]
        {
            assert!(
                mounts.iter().any(|mount| path.starts_with(mount)),
                "{}: {}",
                file.display(),
                path.display()
            );
        }
        let hugepages = container["resources"]["limits"]["hugepages-2Mi"].as_str().unwrap();
        let limit: u32 = hugepages.strip_suffix("Mi").unwrap().parse().unwrap();
        // The flow table is in hugepages, too.
        assert!(config.memory.mebibytes.get() + 128 <= limit, "{hugepages}");
    }
    let names: BTreeSet<&str> = daemon_set["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap())
        .collect();
    let init = &daemon_set["spec"]["template"]["spec"]["initContainers"][0];
    for mount in [container, init].iter().flat_map(|of| of["volumeMounts"].as_array().unwrap()) {
        assert!(names.contains(mount["name"].as_str().unwrap()), "{mount}");
    }
}

#[test]
fn the_daemon_has_cpus_and_hugepages_of_its_own_and_is_not_privileged() {
    let daemon_set = base("DaemonSet");
    let spec = &daemon_set["spec"]["template"]["spec"];
    for container in [&spec["containers"][0], &spec["initContainers"][0]] {
        let resources = &container["resources"];
        assert_eq!(resources["requests"], resources["limits"], "of the class Guaranteed");
        let cpus = resources["limits"]["cpu"].as_str().unwrap();
        assert!(cpus.parse::<u32>().is_ok(), "{cpus} is no whole number");
    }
    let security = &spec["containers"][0]["securityContext"];
    assert!(security["privileged"].is_null());
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
}
