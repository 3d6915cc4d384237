//! Who asks an API server, and where it is: credentials of files that change, over real sockets and TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_apiserver::{ApiServer, Authority, Identity, Store};
use millrace_model::Kind;
use millrace_source::{Access, Change, KubernetesSource, Liveness, News};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NODE: &str = "node-a";
const PATIENCE: Duration = Duration::from_secs(20);
/// In which credentials that were replaced are in use: what is refused looks for others every second.
const SOON: Duration = Duration::from_secs(3);

struct Followed {
    _source: KubernetesSource,
    liveness: Liveness,
    changes: Receiver<News>,
}

impl Followed {
    fn start(access: &Access) -> Self {
        let (liveness, (tell, changes)) = (Liveness::default(), channel());
        let source = KubernetesSource::try_new(access, NODE, &liveness, tell).unwrap();
        Followed { _source: source, liveness, changes }
    }

    /// Waits for this time until everything is known.
    fn is_synced_within(&self, limit: Duration) -> bool {
        self.is_told(limit, |change| *change == Change::Synced)
    }

    /// Waits until another namespace comes.
    fn hears(&self, store: &Store, name: &str, limit: Duration) -> bool {
        store.apply(namespace(name));
        self.is_told(limit, |change| matches!(change, Change::Apply(object) if object.name().name == name))
    }

    /// Waits for this time until such a change is told.
    fn is_told(&self, limit: Duration, is_wanted: impl Fn(&Change) -> bool) -> bool {
        let end = Instant::now() + limit;
        while let Ok(News { change, .. }) =
            self.changes.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if is_wanted(&change) {
                return true;
            }
        }
        false
    }

    fn waits_unknown(&self) {
        eventually("it is unknown", || {
            let heard = self.liveness.heard().unwrap();
            heard.kinds.values().all(|kind| kind.errors.contains_key("unauthorized"))
        });
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Replaces a file in one step, as the kubelet does.
fn replace(file: &Path, text: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file).unwrap();
}

fn only(tokens: &[&str]) -> Option<BTreeSet<String>> {
    Some(tokens.iter().map(|token| (*token).to_owned()).collect())
}

/// What a pod finds in itself.
fn service_account(directory: &Path, authority: &Authority, token: &str, server: &ApiServer) -> Access {
    replace(&directory.join("ca.crt"), &authority.pem());
    replace(&directory.join("token"), token);
    Access {
        server: Some(format!("https://{}", server.address())),
        service_account: directory.to_owned(),
        ..Access::default()
    }
}

fn tls(authority: &Authority, store: &Arc<Store>) -> ApiServer {
    ApiServer::start_tls("127.0.0.1:0".parse().unwrap(), Arc::clone(store), authority).unwrap()
}

/// A kubeconfig file with this user.
fn kubeconfig(room: &TempDir, server: &str, user: &Value) -> PathBuf {
    let file = room.path().join("kubeconfig");
    let authority = room.path().join("authority.crt");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    replace(&file, &text.to_string());
    file
}

#[test]
fn a_pod_finds_its_server_with_authority_and_token_over_tls_and_takes_another_token_at_once() {
    let (room, store, authority) =
        (tempfile::tempdir().unwrap(), Arc::new(Store::default()), Authority::try_new().unwrap());
    store.know(|known| known.tokens = only(&["first"]));
    let server = tls(&authority, &store);
    let followed = Followed::start(&service_account(room.path(), &authority, "first\n", &server));
    assert!(followed.is_synced_within(PATIENCE));
    // Replaced in time, as the kubelet does it: nobody notices.
    replace(&room.path().join("token"), "second");
    store.know(|known| known.tokens = only(&["second"]));
    store.cut();
    assert!(followed.hears(&store, "a", PATIENCE));
    assert!(followed.liveness.heard().unwrap().kinds.values().all(|kind| kind.errors.is_empty()));
    // Replaced too late: refused for a while, and long enough for the longest wait.
    store.know(|known| known.tokens = only(&["third"]));
    store.cut();
    followed.waits_unknown();
    assert!(!followed.hears(&store, "b", Duration::from_secs(8)));
    replace(&room.path().join("token"), "third");
    assert!(followed.hears(&store, "c", SOON));
}

#[test]
fn a_token_file_of_a_kubeconfig_is_read_when_the_server_does_not_know_the_token() {
    let (room, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::default()));
    let server = ApiServer::start_with("127.0.0.1:0".parse().unwrap(), Arc::clone(&store)).unwrap();
    store.know(|known| known.tokens = only(&["new"]));
    let token = room.path().join("token");
    replace(&token, "old");
    let user = json!({"tokenFile": token});
    let file = kubeconfig(&room, &format!("http://{}", server.address()), &user);
    replace(&room.path().join("authority.crt"), &Authority::try_new().unwrap().pem());
    let followed = Followed::start(&Access { kubeconfig: Some(file), ..Access::default() });
    followed.waits_unknown();
    replace(&token, "new");
    assert!(followed.is_synced_within(SOON));
}

#[test]
fn a_kubeconfig_that_is_written_anew_is_read_anew() {
    let (room, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::default()));
    let server = ApiServer::start_with("127.0.0.1:0".parse().unwrap(), Arc::clone(&store)).unwrap();
    store.know(|known| known.tokens = only(&["new"]));
    replace(&room.path().join("authority.crt"), &Authority::try_new().unwrap().pem());
    let url = format!("http://{}", server.address());
    let file = kubeconfig(&room, &url, &json!({"token": "old"}));
    let followed = Followed::start(&Access { kubeconfig: Some(file.clone()), ..Access::default() });
    followed.waits_unknown();
    replace(&file, "half a fi");
    std::thread::sleep(Duration::from_millis(1_500));
    kubeconfig(&room, &url, &json!({"token": "new"}));
    assert!(followed.is_synced_within(SOON));
}

#[test]
fn a_clients_certificate_that_was_replaced_is_shown_to_the_server() {
    let (room, store, authority) =
        (tempfile::tempdir().unwrap(), Arc::new(Store::default()), Authority::try_new().unwrap());
    let [first, second] = ["first", "second"].map(|name| authority.identity(name).unwrap());
    let path = |name: &str| room.path().join(name);
    let put = |identity: &Identity| {
        replace(&path("client.key"), &identity.key);
        replace(&path("client.crt"), &identity.certificate);
    };
    let knows = |identity: &Identity| {
        let identity = identity.clone();
        store.know(|known| (known.tokens, known.certificates) = (only(&[]), vec![identity]));
    };
    put(&first);
    knows(&first);
    replace(&path("authority.crt"), &authority.pem());
    let server = tls(&authority, &store);
    let user = json!({"client-certificate": path("client.crt"), "client-key": path("client.key")});
    let file = kubeconfig(&room, &format!("https://{}", server.address()), &user);
    let followed = Followed::start(&Access { kubeconfig: Some(file), ..Access::default() });
    assert!(followed.is_synced_within(PATIENCE));
    knows(&second);
    store.cut();
    followed.waits_unknown();
    put(&second);
    assert!(followed.hears(&store, "a", SOON));
}

#[test]
fn a_server_of_another_authority_is_not_trusted_until_the_authoritys_file_is_another() {
    let (room, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::default()));
    let [right, wrong] = [(), ()].map(|()| Authority::try_new().unwrap());
    let server = tls(&right, &store);
    let followed = Followed::start(&service_account(room.path(), &wrong, "token", &server));
    eventually("it is told", || {
        let heard = followed.liveness.heard().unwrap();
        heard.silence.is_some_and(|reason| reason.contains("certificate"))
    });
    assert!(store.requests().is_empty(), "nothing was said to it");
    replace(&room.path().join("ca.crt"), &right.pem());
    assert!(followed.is_synced_within(SOON));
}

#[test]
fn the_configured_server_counts_and_not_that_of_the_kubeconfig() {
    let (room, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::default()));
    let server = ApiServer::start_with("127.0.0.1:0".parse().unwrap(), Arc::clone(&store)).unwrap();
    replace(&room.path().join("authority.crt"), &Authority::try_new().unwrap().pem());
    let file = kubeconfig(&room, "https://192.0.2.77:6443", &json!({"token": "token"}));
    let url = format!("http://{}", server.address());
    let access = Access { kubeconfig: Some(file), server: Some(url.clone()), ..Access::default() };
    let followed = Followed::start(&access);
    assert!(followed.is_synced_within(PATIENCE));
    assert_eq!(followed.liveness.heard().unwrap().server, url);
}

#[test]
fn what_is_wrong_with_a_service_account_is_named() {
    let room = tempfile::tempdir().unwrap();
    let access = Access {
        server: Some("https://192.0.2.77:6443".to_owned()),
        service_account: room.path().to_owned(),
        ..Access::default()
    };
    let refused = |access: &Access| {
        let outcome = KubernetesSource::try_new(access, NODE, &Liveness::default(), channel().0);
        outcome.unwrap_err().to_string()
    };
    assert!(refused(&access).contains("ca.crt"), "{}", refused(&access));
    replace(&room.path().join("ca.crt"), "nothing");
    assert!(refused(&access).contains("no certificate"), "{}", refused(&access));
    replace(&room.path().join("ca.crt"), &Authority::try_new().unwrap().pem());
    assert!(refused(&access).contains("token"), "{}", refused(&access));
    replace(&room.path().join("token"), "token");
    let open = Access { server: Some("http://192.0.2.77:6443".to_owned()), ..access.clone() };
    assert!(refused(&open).contains("https only"), "{}", refused(&open));
    let nowhere = Access { server: Some("somewhere".to_owned()), ..access };
    assert!(refused(&nowhere).contains("somewhere"), "{}", refused(&nowhere));
}

#[test]
fn a_broken_kubeconfig_is_told_without_what_is_in_it() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("config");
    replace(
        &file,
        "users:\n- name: me\n  user:\n    token: SECRET-OF-MINE\n   client-key-data: [SECRET-OF-MINE\n",
    );
    let access = Access { kubeconfig: Some(file), ..Access::default() };
    let outcome = KubernetesSource::try_new(&access, NODE, &Liveness::default(), channel().0);
    let error = format!("{:#}", outcome.unwrap_err());
    assert!(error.contains("config") && !error.contains("SECRET"), "{error}");
}

#[test]
fn policies_are_followed_like_everything_else() {
    let (room, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::default()));
    let authority = Authority::try_new().unwrap();
    let server = tls(&authority, &store);
    let policy = |name: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "demo"}, "spec": spec})
    };
    store.apply(policy("closed", json!({"podSelector": {}})));
    let followed = Followed::start(&service_account(room.path(), &authority, "token", &server));
    assert!(followed.is_synced_within(PATIENCE));
    // Nothing waits for policies: they may come after all else is synced.
    eventually("the policy is there", || {
        followed.liveness.heard().unwrap().kinds[&Kind::NetworkPolicy].objects == 1
    });
    store.apply(policy("wrong", json!({"podSelector": {}, "policyTypes": ["Sideways"]})));
    assert!(followed.is_told(PATIENCE, |change| match change {
        Change::Problems(problems) => format!("{problems:?}").contains("Sideways"),
        _ => false,
    }));
}
