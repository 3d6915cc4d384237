use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Runs a call inside of the test; says whether it succeeded and what it wrote to its output.
fn call(variables: &[(&str, &str)], input: &[u8]) -> (bool, Vec<u8>) {
    let environment: Environment = variables.iter().copied().collect();
    let (mut input, mut output, mut log) = (input, Vec::new(), Vec::new());
    let code = run(&environment, &mut input, &mut output, &mut log);
    // `ExitCode` cannot be compared.
    (format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), output)
}

fn error(variables: &[(&str, &str)], input: &[u8]) -> ErrorObject {
    let (succeeded, output) = call(variables, input);
    assert!(!succeeded);
    serde_json::from_slice(&output).unwrap()
}

fn version(input: &[u8]) -> Value {
    let (succeeded, output) = call(&[("CNI_COMMAND", "VERSION")], input);
    assert!(succeeded);
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn versions_are_told_in_the_version_of_the_question() {
    let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let expected = |version: &str| json!({"cniVersion": version, "supportedVersions": supported});
    assert_eq!(version(b""), expected("1.1.0"));
    assert_eq!(version(b"{}"), expected("1.1.0"));
    assert_eq!(version(br#"{"cniVersion": "0.4.0"}"#), expected("0.4.0"));
    assert_eq!(version(br#"{"cniVersion": "9.0.0"}"#), expected("9.0.0"));
    assert_eq!(error(&[("CNI_COMMAND", "VERSION")], b"{").code, 6);
}

#[test]
fn an_error_has_the_version_of_the_configuration() {
    let status = [("CNI_COMMAND", "STATUS")];
    let told = error(&status, br#"{"cniVersion": "1.0.0", "name": "pods"}"#);
    assert_eq!((told.cni_version.as_str(), told.code), ("1.0.0", 1));
    let told = error(&status, br#"{"cniVersion": "3.0.0", "name": "pods"}"#);
    assert_eq!((told.cni_version.as_str(), told.code), ("1.1.0", 1));
    assert!(told.details.contains("3.0.0"), "{told:?}");
    assert_eq!(error(&status, br#"{"cniVersion": "1.1.0"}"#).code, 7);
    assert_eq!(error(&status, b"\xff\xfe").code, 6);
}

#[test]
fn wrong_variables_are_in_the_message() {
    let told = error(&[("CNI_COMMAND", "DEL")], b"");
    assert_eq!(told.code, 4);
    assert!(told.msg.contains("CNI_CONTAINERID") && told.msg.contains("CNI_IFNAME"), "{told:?}");
    assert_eq!(error(&[], b"").code, 4);
}

/// An input that breaks off with an error.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("broken"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("broken"))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_input_that_breaks_off_is_an_io_failure() {
    let environment: Environment = [("CNI_COMMAND", "STATUS")].into_iter().collect();
    let mut output = Vec::new();
    let _ = run(&environment, &mut Broken, &mut output, &mut Vec::new());
    assert_eq!(serde_json::from_slice::<ErrorObject>(&output).unwrap().code, 5);
}

#[test]
fn an_endless_input_is_given_up() {
    let environment: Environment = [("CNI_COMMAND", "STATUS")].into_iter().collect();
    let mut output = Vec::new();
    let _ = run(&environment, &mut std::io::repeat(b' '), &mut output, &mut Vec::new());
    assert_eq!(serde_json::from_slice::<ErrorObject>(&output).unwrap().code, 7);
}

#[test]
fn a_result_that_nobody_gets_is_a_failure() {
    let environment: Environment = [("CNI_COMMAND", "VERSION")].into_iter().collect();
    let code = run(&environment, &mut &b""[..], &mut Broken, &mut Vec::new());
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    // No verb is among them that would look for a daemon before it looks at the fields.
    #[test]
    fn garbage_gets_exactly_one_error_object(
        verb in prop::sample::select(vec!["ADD", "DEL", "CHECK", "GC", "STATUS", "", "X"]),
        id in "\\PC{0,20}",
        interface in "\\PC{0,20}",
        extra in "\\PC{0,30}",
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "\\{\"cniVersion\": ?\"1.1.0\", ?\"name\": ?[0-9\\[\\{\"a-z]{0,5}\\}?".prop_map(String::into_bytes),
        ],
    ) {
        let variables = [
            ("CNI_COMMAND", verb), ("CNI_CONTAINERID", &id), ("CNI_IFNAME", &interface), ("CNI_ARGS", &extra),
            ("CNI_NETNS", "/proc/self/ns/mnt"),
        ];
        // The one input in 10,000 that is a configuration.
        prop_assume!(serde_json::from_slice::<Value>(&input).is_err());
        let told = error(&variables, &input);
        prop_assert!([4, 6].contains(&told.code), "{told:?}");
        prop_assert!(!told.msg.is_empty() && !told.details.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    // Any JSON in any field, and nobody who would answer.
    #[test]
    fn any_value_in_any_field_gets_an_error_object(
        verb in prop::sample::select(vec!["ADD", "CHECK", "GC", "STATUS"]),
        field in prop::sample::select(vec![
            "name", "type", "socket", "stateDirectory", "waitSeconds", "port", "mtu", "ipam", "dns", "runtimeConfig",
            "args", "prevResult", "ipMasq", "cni.dev/valid-attachments", "other",
        ]),
        value in any_json(),
    ) {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "pods", "socket": "/nonexistent/socket", "waitSeconds": 0,
            "stateDirectory": "/nonexistent/state",
        });
        // Legal times of waiting are too long for a test.
        prop_assume!(field != "waitSeconds" || !(value.is_u64() || value.is_null()));
        config[field] = value;
        let variables = [
            ("CNI_COMMAND", verb), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/proc/self/ns/mnt"), ("CNI_PATH", "/nonexistent"),
        ];
        let told = error(&variables, &serde_json::to_vec(&config).unwrap());
        prop_assert!([2, 7, 11, 51, 101].contains(&told.code), "{told:?}");
    }
}

/// Values of the names and forms that a configuration has, and of any others.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "type",
        "routes",
        "dst",
        "ips",
        "address",
        "interfaces",
        "name",
        "sandbox",
        "interface",
        "nameservers",
        "mac",
        "portMappings",
        "hostPort",
        "containerPort",
        "HostIP",
        "protocol",
        "bandwidth",
        "ingressRate",
        "cni",
        "mtu",
        "containerID",
        "ifname",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "eth0",
            "10.0.0.5/32",
            "0.0.0.0/0",
            "tcp",
            "tap",
            "/x",
            "02:00:00:00:00:01"
        ])
        .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}
