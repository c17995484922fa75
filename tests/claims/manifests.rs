//! The units, the manifests and the compose file agree with the settings of the programs that they start.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};
use shared::{
    bus::topology::Names,
    config::{Config, ENV_PREFIX, Value as _, is_a_setting, section},
};
use terminator::TerminatorConfig;
use worker::config::WorkerConfig;

/// What either program may take beyond its `drain-timeout`, in seconds.
const AFTER_DRAIN_S: u64 = 15;

const MANIFESTS: [&str; 7] = [
    "namespace",
    "config",
    "secret.example",
    "terminator",
    "worker",
    "worker-scaler",
    "network",
];

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything under `deploy/kubernetes` of this kind.
fn of_kind(kind: &str) -> Vec<Value> {
    let read = |name| read(&format!("deploy/kubernetes/{name}.yaml"));
    let documents = |name| serde_saphyr::from_multiple::<Value>(&read(name)).expect("YAML");
    let mut all: Vec<_> = MANIFESTS.into_iter().flat_map(documents).collect();
    all.retain(|document| document["kind"] == kind);
    assert!(!all.is_empty(), "there is no {kind}");
    all
}

/// The pod of each Deployment, by its name.
fn pods() -> Vec<(String, Value)> {
    let named = |deployment: Value| {
        let name = deployment["metadata"]["name"].as_str().expect("a name").to_owned();
        assert_eq!(
            deployment["spec"]["selector"]["matchLabels"],
            labels_of(&name),
            "{name}"
        );
        (name, deployment["spec"]["template"].clone())
    };
    of_kind("Deployment").into_iter().map(named).collect()
}

fn labels_of(name: &str) -> Value {
    json!({"app.kubernetes.io/name": name})
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML")
}

/// The numbers of a pod's ports, by their names.
fn ports(pod: &Value) -> BTreeMap<&str, u64> {
    let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("ports");
    let port = |port: &'_ Value| port["containerPort"].as_u64().expect("a number");
    ports
        .iter()
        .map(|one| (one["name"].as_str().expect("a name"), port(one)))
        .collect()
}

fn default_of<T: Config>(name: &str) -> &'static str {
    let settings = section::<T>().1;
    let setting = settings.iter().find(|setting| setting.name == name);
    setting
        .and_then(|setting| setting.default)
        .expect("a setting with a default")
}

#[test]
fn whoever_stops_a_program_waits_until_it_has_drained() {
    let drains = [
        default_of::<TerminatorConfig>("drain-timeout"),
        default_of::<WorkerConfig>("drain-timeout"),
    ];
    let longest = drains.map(|text| std::time::Duration::parse(text).expect("a duration").as_secs());
    let least = longest.into_iter().max().unwrap_or_default() + AFTER_DRAIN_S;
    let mut seen = 0;
    let mut waits = |who: &str, seconds: u64| {
        seen += 1;
        assert!(
            seconds > least,
            "{who} kills after {seconds} s, and a drain may take {least} s"
        );
    };
    for (name, pod) in pods() {
        waits(
            &name,
            pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number"),
        );
    }
    for unit in ["countersign-terminator.service", "countersign-worker@.service"] {
        let text = read(&format!("deploy/systemd/{unit}"));
        let stop = text
            .lines()
            .find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')?.parse().ok());
        waits(unit, stop.expect("a time limit"));
    }
    for service in ["terminator", "worker"] {
        let stop = compose()["services"][service]["stop_grace_period"].clone();
        let seconds = stop.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
        waits(service, seconds.expect("a time limit"));
    }
    assert_eq!(seen, 6);
}

#[test]
fn every_variable_that_is_set_is_a_setting() {
    let files = MANIFESTS.map(|name| format!("deploy/kubernetes/{name}.yaml"));
    let units = ["terminator", "worker@"].map(|name| format!("deploy/systemd/countersign-{name}.service"));
    let mut seen = 0;
    for path in files
        .iter()
        .chain(&units)
        .map(String::as_str)
        .chain(["docker-compose.yml", "Dockerfile"])
    {
        let text = read(path);
        for rest in text.split(ENV_PREFIX).skip(1) {
            let end = rest
                .find(|c: char| !(c.is_ascii_uppercase() || c == '_'))
                .unwrap_or(rest.len());
            let name = rest[..end].to_lowercase().replace('_', "-");
            assert!(is_a_setting(&name), "{path} sets {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} variables were found: the claim has gone blind");
}

#[test]
fn every_pod_is_confined_bounded_and_probed() {
    let user = read("Dockerfile");
    let user: u64 = user
        .split("--uid ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a user");
    let settings = &of_kind("ConfigMap")[0]["data"];
    for (name, pod) in pods() {
        let container = &pod["spec"]["containers"][0];
        let security = [&pod["spec"]["securityContext"], &container["securityContext"]];
        assert_eq!(security[0]["runAsNonRoot"], true, "{name}");
        assert_eq!(security[0]["runAsUser"], user, "{name}: as in the Dockerfile");
        assert_eq!(security[1]["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security[1]["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security[1]["capabilities"]["drop"], json!(["ALL"]), "{name}");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
        let ports = ports(&pod);
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            assert_eq!(
                container[probe]["httpGet"],
                json!({"path": path, "port": "admin"}),
                "{name}"
            );
        }
        let variables = container["env"].as_array().expect("variables");
        let admin = variables
            .iter()
            .find(|variable| variable["name"] == "COUNTERSIGN_ADMIN_LISTEN");
        assert_eq!(
            admin.expect("the admin port")["value"],
            format!("0.0.0.0:{}", ports["admin"]),
            "{name}"
        );
        assert_eq!(
            pod["metadata"]["annotations"]["prometheus.io/port"],
            ports["admin"].to_string(),
            "{name}"
        );
        if let Some(ws) = ports.get("ws") {
            assert_eq!(settings["COUNTERSIGN_LISTEN"], format!("0.0.0.0:{ws}"), "{name}");
        }
    }
}

#[test]
fn every_deployment_has_a_disruption_budget_and_a_network_policy_for_each_of_its_ports() {
    let of = |kind: &str, selector: &str, name: &str| {
        let labels = labels_of(name);
        let found = of_kind(kind)
            .into_iter()
            .find(|one| one["spec"][selector]["matchLabels"] == labels);
        found.unwrap_or_else(|| panic!("{name} has no {kind}"))
    };
    for (name, pod) in pods() {
        of("PodDisruptionBudget", "selector", &name);
        let policy = of("NetworkPolicy", "podSelector", &name);
        let rules = policy["spec"]["ingress"].as_array().expect("rules");
        let open: Vec<_> = rules
            .iter()
            .flat_map(|rule| rule["ports"].as_array().expect("ports"))
            .collect();
        let open: Vec<_> = open.iter().map(|port| port["port"].as_str().expect("a name")).collect();
        let mut ports: Vec<_> = ports(&pod).into_keys().rev().collect();
        ports.sort_by_key(|port| open.iter().position(|one| one == port));
        assert_eq!(open, ports, "{name}");
    }
}

#[test]
fn the_scaler_looks_at_the_queue_in_which_messages_wait() {
    let scaler = &of_kind("ScaledObject")[0]["spec"];
    let names = Names::new(default_of::<WorkerConfig>("namespace"));
    for (trigger, queue) in [names.messages(), names.injected()].iter().enumerate() {
        assert_eq!(scaler["triggers"][trigger]["metadata"]["queueName"], queue.name);
    }
    assert!(
        pods()
            .iter()
            .any(|(name, _)| scaler["scaleTargetRef"]["name"] == **name)
    );
}
