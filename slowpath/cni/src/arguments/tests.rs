use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

/// A complete `ADD`, with some variables replaced or, by an empty value, taken away.
fn add(changes: &[(&str, &str)]) -> Result<Arguments, CniError> {
    let complete = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/mnt"),
        ("CNI_IFNAME", "eth0"),
    ];
    Arguments::read(&complete.iter().chain(changes).copied().collect())
}

fn wrong_names(outcome: Result<Arguments, CniError>) -> Vec<&'static str> {
    match outcome.unwrap_err() {
        CniError::Environment(variables) => variables.iter().map(|variable| variable.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_complete_addition_is_read() {
    match add(&[("CNI_ARGS", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b")]).unwrap() {
        Arguments::Add(call) => {
            assert_eq!(call.id.to_string(), "c1/eth0");
            assert_eq!(call.netns, Path::new("/proc/self/ns/mnt"));
            assert_eq!(call.extra.pod.unwrap().name, "b");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_that_is_missing_or_wrong_is_told_at_once() {
    let nothing = environment(&[("CNI_COMMAND", "ADD")]);
    assert_eq!(wrong_names(Arguments::read(&nothing)), ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]);
    let nothing = environment(&[("CNI_COMMAND", "DEL")]);
    assert_eq!(wrong_names(Arguments::read(&nothing)), ["CNI_CONTAINERID", "CNI_IFNAME"]);
    let wrong = [("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "sixteen-bytes-xx"), ("CNI_ARGS", "x")];
    assert_eq!(wrong_names(add(&wrong)), ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS"]);
}

#[test]
fn a_verb_must_be_known() {
    assert_eq!(wrong_names(Arguments::read(&environment(&[]))), ["CNI_COMMAND"]);
    let error = Arguments::read(&environment(&[("CNI_COMMAND", "add")])).unwrap_err();
    assert!(error.to_string().contains("`add`"), "{error}");
    for verb in ["GC", "STATUS", "VERSION"] {
        let arguments = Arguments::read(&environment(&[("CNI_COMMAND", verb)])).unwrap();
        assert_eq!(arguments.verb().name(), verb);
    }
}

#[test]
fn names_that_linux_does_not_take_are_refused() {
    for name in [".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
        assert_eq!(wrong_names(add(&[("CNI_IFNAME", name)])), ["CNI_IFNAME"], "{name:?}");
    }
    assert!(add(&[("CNI_IFNAME", "fifteen-bytes-x")]).is_ok());
}

#[test]
fn the_nodes_own_namespace_is_not_given_away() {
    let error = add(&[("CNI_NETNS", "/proc/self/ns/net")]).unwrap_err();
    assert!(error.to_string().contains("node's own"), "{error}");
}

#[test]
fn a_namespace_must_be_there_for_an_addition_and_not_for_a_deletion() {
    for netns in ["", "ns/relative", "/run/netns/nothing-of-this-name"] {
        assert_eq!(wrong_names(add(&[("CNI_NETNS", netns)])), ["CNI_NETNS"], "{netns:?}");
        assert!(add(&[("CNI_NETNS", netns), ("CNI_COMMAND", "DEL"), ("CNI_ARGS", "?")]).is_ok());
    }
}

#[test]
fn a_value_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let command = OsString::from("CNI_COMMAND");
    let variables = [(command, OsString::from_vec(vec![0xff]))].into_iter().collect();
    assert_eq!(wrong_names(Arguments::read(&variables)), ["CNI_COMMAND"]);
}

#[test]
fn verbs_came_with_versions() {
    let since = |verb: Verb| Version::ALL.into_iter().find(|version| verb.check_version(*version).is_ok());
    assert_eq!(since(Verb::Add), Some(Version::V0_3_1));
    assert_eq!(since(Verb::Del), Some(Version::V0_3_1));
    assert_eq!(since(Verb::Check), Some(Version::V0_4_0));
    assert_eq!(since(Verb::Gc), Some(Version::V1_1_0));
    assert_eq!(since(Verb::Status), Some(Version::V1_1_0));
    assert_eq!(Verb::Check.check_version(Version::V0_3_1).unwrap_err().code(), 1);
}
