//! The units, the manifests and the compose file agree with the settings of the programs that they start.

mod walk;

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use shared::bus::topology::Names;
use shared::service::config::{Config, ENV_PREFIX, Value as _, is_a_setting, section};
use terminator::TerminatorConfig;
use tests::nodes::port::free_port;
use tests::nodes::process::Process;
use tests::nodes::watchdog::Folder;
use tests::{eventually, shared_broker};
use worker::config::WorkerConfig;

/// What either program may take beyond its `drain-timeout`, in seconds.
const AFTER_DRAIN_S: u64 = 15;

const MANIFESTS: [&str; 10] = [
    "base/namespace",
    "base/terminator",
    "base/worker",
    "base/network",
    "components/keda/worker-scaler",
    "components/hpa/terminator",
    "components/hpa/worker",
    "components/monitoring/pod-monitors",
    "components/ingress-nginx/ingress",
    "components/gateway/http-route",
];

const OVERLAYS: [&str; 2] = ["overlays/development", "overlays/production"];

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

fn kustomization(folder: &str) -> Value {
    serde_saphyr::from_str(&read(&format!("deploy/kubernetes/{folder}/kustomization.yaml"))).expect("YAML")
}

/// What a generator of this folder makes under that name.
fn generated(folder: &str, generator: &str, name: &str) -> Option<Value> {
    let kustomization = kustomization(folder);
    let all = kustomization[generator].as_array()?.iter();
    all.clone().find(|one| one["name"] == name).cloned()
}

/// The settings of a program in every cluster.
fn settings(name: &str) -> BTreeMap<String, String> {
    let map = generated("base", "configMapGenerator", name).expect("its settings");
    let literals = map["literals"].as_array().expect("literals").iter();
    literals
        .map(|literal| literal.as_str().and_then(|literal| literal.split_once('=')))
        .map(|pair| pair.expect("a name and a value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
        let delay = settings(&name).remove("COUNTERSIGN_DRAIN_DELAY");
        let delay = delay.map_or(0, |text| {
            std::time::Duration::parse(&text).expect("a duration").as_secs()
        });
        let seconds = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
        waits(&name, seconds.saturating_sub(delay));
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
    let folders = OVERLAYS.into_iter().chain(["base"]);
    let kustomizations = folders.map(|folder| format!("{folder}/kustomization"));
    let files = MANIFESTS.into_iter().map(str::to_owned).chain(kustomizations);
    let files: Vec<_> = files.map(|name| format!("deploy/kubernetes/{name}.yaml")).collect();
    let mut units = vec![
        "deploy/systemd/terminator.env".to_owned(),
        "deploy/systemd/worker.env".to_owned(),
    ];
    units.extend(["terminator", "worker@"].map(|name| format!("deploy/systemd/countersign-{name}.service")));
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
        .split("USER ")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok())
        .expect("a user");
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
        let settings = settings(&name);
        assert_eq!(
            settings["COUNTERSIGN_ADMIN_LISTEN"],
            format!("0.0.0.0:{}", ports["admin"]),
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

/// The operations of each JSON patch of a component, and what they are for.
fn patches(component: &str) -> Vec<(Value, Value)> {
    let kustomization = kustomization(&format!("components/{component}"));
    let patches = kustomization["patches"].as_array().expect("patches");
    let operations = |patch: &Value| serde_saphyr::from_str(patch["patch"].as_str().expect("a patch")).expect("YAML");
    patches
        .iter()
        .map(|patch| (patch["target"].clone(), operations(patch)))
        .collect()
}

#[test]
fn the_scaler_looks_at_every_shard_of_messages_where_there_are_several() {
    let scaler = &of_kind("ScaledObject")[0];
    let names = Names::new(default_of::<WorkerConfig>("namespace"));
    let [(target, added)] = &patches("keda-message-shards")[..] else {
        panic!("one patch")
    };
    assert_eq!(
        *target,
        json!({"kind": "ScaledObject", "name": scaler["metadata"]["name"]})
    );
    let added = added.as_array().expect("operations");
    assert!(
        added
            .iter()
            .all(|one| one["op"] == "add" && one["path"] == "/spec/triggers/-")
    );
    let shards = names
        .message_shards(u16::try_from(added.len()).expect("few") + 1)
        .skip(1);
    for (one, queue) in added.iter().zip(shards) {
        let mut like = scaler["spec"]["triggers"][0].clone();
        like["metadata"]["queueName"] = json!(queue.name);
        assert_eq!(one["value"], like);
    }
    assert!(added.len() >= 2);
}

#[test]
fn the_namespace_of_the_gateway_is_let_in_to_the_terminators() {
    let policies = of_kind("NetworkPolicy");
    let terminator = policies
        .iter()
        .find(|policy| policy["metadata"]["name"] == "terminator");
    let mut terminator = terminator.expect("its policy").clone();
    let [(target, changed)] = &patches("gateway")[..] else {
        panic!("one patch")
    };
    assert_eq!(*target, json!({"kind": "NetworkPolicy", "name": "terminator"}));
    for one in changed.as_array().expect("operations") {
        let place = terminator
            .pointer_mut(one["path"].as_str().expect("a path"))
            .expect("a place that is there");
        match one["op"].as_str() {
            Some("test") => assert_eq!(*place, one["value"]),
            Some("replace") => *place = one["value"].clone(),
            other => panic!("{other:?}"),
        }
    }
    let rules = terminator["spec"]["ingress"].as_array().expect("rules");
    let clients = rules
        .iter()
        .find(|rule| rule["ports"][0]["port"] == "ws")
        .expect("clients");
    let gateway = &of_kind("HTTPRoute")[0]["spec"]["parentRefs"][0]["namespace"];
    let labels = &clients["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(labels["kubernetes.io/metadata.name"], *gateway);
}

#[test]
fn every_pod_is_scraped_under_the_job_by_which_the_alerts_go() {
    let jobs: Vec<_> = of_kind("PodMonitor")
        .iter()
        .map(|monitor| {
            let spec = &monitor["spec"];
            let endpoint = &spec["podMetricsEndpoints"][0];
            assert_eq!(endpoint["port"], "admin");
            let job = endpoint["relabelings"][0].clone();
            assert_eq!(job["targetLabel"], "job");
            let name = monitor["metadata"]["name"].as_str().expect("a name").to_owned();
            assert_eq!(spec["selector"]["matchLabels"], labels_of(&name));
            assert_eq!(job["replacement"], format!("countersign-{name}"));
            name
        })
        .collect();
    let pods: Vec<_> = pods().into_iter().map(|(name, _)| name).collect();
    assert_eq!(jobs, pods);
    let prometheus: Value = serde_saphyr::from_str(&read("deploy/prometheus/prometheus.yaml")).expect("YAML");
    for (scraped, name) in prometheus["scrape_configs"].as_array().expect("jobs").iter().zip(&pods) {
        assert_eq!(scraped["job_name"], format!("countersign-{name}"));
    }
}

/// The alerts for the Prometheus Operator are those of `deploy/prometheus`, as the spec of a PrometheusRule.
#[test]
fn the_operator_has_the_same_alerts() {
    const PATH: &str = "deploy/kubernetes/components/monitoring/alerts.yaml";
    let mut rule = "# The alerts of deploy/prometheus/alerts.yaml for the Prometheus Operator. A claim makes it: UPDATE=1 cargo test \
        -p tests --test claims the_operator.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  \
        name: countersign\nspec:\n"
        .to_owned();
    for line in read("deploy/prometheus/alerts.yaml").lines() {
        let indent = if line.is_empty() { "" } else { "  " };
        rule.push_str(&format!("{indent}{line}\n"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(PATH), &rule).expect("written");
    }
    assert_eq!(read(PATH), rule);
}

#[test]
fn a_terminator_has_the_memory_that_its_limits_promise_and_takes_all_who_come_through_one_ingress() {
    // The program itself, and a connection, of which 5.5 KiB were measured.
    const PROGRAM: usize = 64 << 20;
    const CONNECTION: usize = 6 << 10;
    let settings = settings("terminator");
    let bytes = |name: &str| {
        let size = shared::service::config::Size::parse(&settings[name]).expect("a size");
        size.bytes()
    };
    let connections: usize = settings["COUNTERSIGN_MAX_CONNECTIONS"].parse().expect("a number");
    let most = PROGRAM
        + connections * CONNECTION
        + bytes("COUNTERSIGN_SEND_QUEUE_BYTES_TOTAL")
        + bytes("COUNTERSIGN_RECEIVE_QUEUE_BYTES_TOTAL");
    let (_, pod) = pods().into_iter().find(|(name, _)| name == "terminator").expect("it");
    let limit = pod["spec"]["containers"][0]["resources"]["limits"]["memory"].clone();
    assert_eq!(limit, "1Gi");
    assert!(most < 1 << 30, "{most} bytes");
    // Client 1,001 gets in, because it is not the ingress: that a trusted proxy's clients count by themselves is a claim of its own.
    let trusted = &settings["COUNTERSIGN_TRUSTED_PROXIES"];
    shared::service::config::from_pairs::<TerminatorConfig>([("trusted-proxies", trusted.as_str())]).expect("networks");
    assert!(!trusted.is_empty() && !trusted.contains("0.0.0.0/0"), "{trusted}");
    assert!(
        settings.keys().all(|name| !name.contains("PER_IP")),
        "each client has the limits of any other"
    );
}

#[test]
fn every_overlay_brings_what_its_pods_read_under_names_that_are_found_from_everywhere() {
    for overlay in OVERLAYS {
        for (name, pod) in pods() {
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["envFrom"][0]["configMapRef"]["name"], name);
            assert!(container["env"].is_null(), "a secret is a file, and no variable");
            let secret = generated(overlay, "secretGenerator", &name).expect("its secret");
            assert_eq!(
                secret["options"]["disableNameSuffixHash"], true,
                "it is read again when it changes"
            );
            let mounted = json!({"name": "secrets", "secret": {"secretName": name}});
            let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
            assert!(volumes.contains(&mounted), "{name}: {volumes:?}");
            let mut keys: Vec<String> = Vec::new();
            for literal in secret["literals"].as_array().into_iter().flatten() {
                keys.push(literal.as_str().expect("a text").to_owned());
            }
            for file in secret["envs"].as_array().into_iter().flatten() {
                let file = file.as_str().expect("a file");
                let text = read(&format!("deploy/kubernetes/{overlay}/{file}"));
                keys.extend(text.lines().map(str::to_owned));
            }
            let mut all = settings(&name);
            let own = generated(overlay, "configMapGenerator", &name).expect("its settings");
            for literal in own["literals"].as_array().expect("literals") {
                let (name, value) = literal.as_str().and_then(|text| text.split_once('=')).expect("a pair");
                all.insert(name.to_owned(), value.to_owned());
            }
            let mut urls = 0;
            for (setting, value) in &all {
                if let Some(key) = value.strip_prefix("/etc/countersign/secrets/") {
                    let pair = keys.iter().find(|pair| pair.split('=').next() == Some(key));
                    assert!(pair.is_some(), "{overlay}: {name} has no {key} for {setting}");
                }
                let Some((_, address)) = value.split_once("://").filter(|_| setting.ends_with("_URL")) else {
                    continue;
                };
                urls += 1;
                let (user, host) = address.rsplit_once('@').unwrap_or(("", address));
                assert!(!user.contains(':'), "{overlay}: a password in {setting}");
                let host = host.split([':', '/']).next().unwrap_or_default();
                assert!(host.ends_with(".svc"), "{overlay}: {value}");
            }
            assert_eq!(urls, if name == "worker" { 2 } else { 1 }, "{overlay}: {name}");
        }
        assert!(
            generated(overlay, "configMapGenerator", "countersign-keys").is_some(),
            "{overlay}"
        );
        assert_eq!(
            kustomization(overlay)["namespace"],
            of_kind("Namespace")[0]["metadata"]["name"]
        );
    }
    let key = |folder: &str| read(&format!("deploy/{folder}/hmac.key"));
    assert_eq!(key("kubernetes/overlays/development"), key("development"));
}

#[test]
fn what_scales_a_deployment_scales_one_that_is_there() {
    for scaler in of_kind("HorizontalPodAutoscaler") {
        let name = &scaler["metadata"]["name"];
        assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], *name);
        assert!(pods().iter().any(|(pod, _)| *name == **pod), "{name}");
        assert!(
            scaler["spec"]["minReplicas"].as_u64().is_some_and(|least| least >= 2),
            "{name}"
        );
    }
}

#[test]
fn the_containers_leave_the_ports_and_the_settings_of_a_shell_to_its_own_programs() {
    let text = read("docker-compose.yml");
    assert!(
        !text.contains(&format!("${{{ENV_PREFIX}")),
        "a setting of the shell reaches into a container"
    );
    // The last is the README's second worker.
    let own = [
        default_of::<TerminatorConfig>("listen"),
        default_of::<TerminatorConfig>("admin-listen"),
        default_of::<WorkerConfig>("admin-listen"),
        "127.0.0.1:9092",
    ];
    let own = own.map(|address| address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()));
    let compose = compose();
    let mut taken = Vec::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port
                .as_str()
                .expect("a text")
                .strip_prefix("127.0.0.1:")
                .expect("loopback");
            let outside = port.split(':').next().expect("a port");
            let (first, last) = outside.split_once('-').unwrap_or((outside, outside));
            let range = first.parse::<u16>().expect("a port")..=last.parse().expect("a port");
            assert!(
                own.iter().all(|own| !range.contains(&own.expect("a port"))),
                "{name}: {port}"
            );
            taken.extend(range);
        }
        assert!(
            service["ulimits"].is_null(),
            "{name}: the programs raise their limits themselves"
        );
    }
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), count, "no port twice");
}

#[test]
fn one_image_is_built_and_looks_after_its_health_itself() {
    let services = &compose()["services"];
    let mut built = 0;
    for name in ["terminator", "worker"] {
        built += usize::from(!services[name]["build"].is_null());
        let check = &services[name]["healthcheck"]["test"];
        assert_eq!(
            (&check[1], &check[2]),
            (&json!("countersign"), &json!("ready")),
            "{name}"
        );
    }
    assert_eq!(built, 1);
    assert_eq!(services["worker"]["pull_policy"], "never");
    assert!(!read("Dockerfile").contains("apt-get install -y --no-install-recommends ca-certificates"));
}

#[test]
fn what_is_installed_is_what_the_units_read() {
    let install = read("deploy/systemd/install");
    for (unit, program) in [
        ("countersign-terminator.service", "terminator"),
        ("countersign-worker@.service", "worker"),
    ] {
        let unit = read(&format!("deploy/systemd/{unit}"));
        assert!(unit.contains(&format!(
            "ExecStart=/usr/local/bin/{program} --config /etc/countersign/{program}.toml"
        )));
        assert!(unit.contains(&format!("EnvironmentFile=-/etc/countersign/{program}.env")));
        assert!(unit.contains("ExecReload=/bin/kill -HUP $MAINPID"));
        for credential in unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")) {
            let (_, path) = credential.split_once(':').expect("a name and a path");
            let file = path.strip_prefix("/etc/countersign/").expect("a file of ours");
            assert!(install.contains(file), "{file}");
        }
        // What is there to be taken in, as for TLS, is to be right as well.
        let whole = unit
            .replace("\n# LoadCredential=", "\nLoadCredential=")
            .replace("\n# Environment=", "\nEnvironment=");
        let lines = || whole.lines().filter(|line| !line.starts_with('#'));
        let mut given: Vec<_> = lines()
            .filter_map(|line| line.strip_prefix("LoadCredential=")?.split(':').next())
            .collect();
        let words = lines().flat_map(str::split_whitespace);
        let mut read: Vec<_> = words
            .filter_map(|word| word.split_once("=%d/"))
            .map(|(_, name)| name)
            .collect();
        given.sort_unstable();
        read.sort_unstable();
        assert_eq!(
            given, read,
            "each credential is given to a setting, and each setting gets one"
        );
        assert!(given.len() >= 2, "{given:?}");
        for file in [format!("{program}.toml"), format!("{program}.env")] {
            assert!(install.contains(&file), "{file}");
        }
    }
    // Both programs are names of the one file that a release has.
    let links = r#"for program in terminator worker; do ln -sfn countersign "$root/usr/local/bin/$program"; done"#;
    assert!(install.contains(links));
}

#[test]
fn the_examples_of_settings_are_accepted() {
    for program in ["terminator", "worker"] {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/systemd/{program}.toml"));
        let variables = read(&format!("deploy/systemd/{program}.env"));
        let variables = variables
            .lines()
            .filter_map(|line| line.split_once('=').filter(|_| !line.starts_with('#')));
        let checked = std::process::Command::new(tests::nodes::program::programs().join(program))
            .env_clear()
            .envs(variables)
            .arg("--config")
            .arg(file)
            .arg("--print-config")
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{program}: {said}");
    }
}

/// A user with a password in an address, but for those that everyone knows.
fn has_a_password(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"', ',']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        user.contains(':') && ![":development", ":guest"].iter().any(|known| user.ends_with(known))
    })
}

#[test]
fn no_example_puts_a_password_where_others_see_it() {
    let mut pages: Vec<String> = [
        "README.md",
        "docker-compose.yml",
        "Dockerfile",
        "deploy/kubernetes/README.md",
        "docs/credentials.md",
        "docs/identity-providers.md",
        "docs/operations.md",
        "docs/permissions.md",
        "docs/protocol.md",
        "docs/runbook.md",
        "docs/updating.md",
    ]
    .map(str::to_owned)
    .to_vec();
    let units = ["countersign-terminator.service", "countersign-worker@.service"];
    let files = [
        "terminator.env",
        "terminator.toml",
        "worker.env",
        "worker.toml",
        "install",
    ];
    pages.extend(units.iter().chain(&files).map(|name| format!("deploy/systemd/{name}")));
    let manifests = MANIFESTS.iter().map(|name| format!("{name}.yaml"));
    let overlays = OVERLAYS.iter().map(|name| format!("{name}/kustomization.yaml"));
    pages.extend(
        manifests
            .chain(overlays)
            .map(|name| format!("deploy/kubernetes/{name}")),
    );
    for page in pages {
        for line in read(&page).lines() {
            assert!(!has_a_password(line), "{page}: {line}");
            assert!(
                !line.contains("_PASS:") && !line.contains("requirepass"),
                "{page}: {line}"
            );
        }
    }
    for program in ["terminator", "worker", "countersign"] {
        let help = std::process::Command::new(tests::nodes::program::programs().join(program))
            .arg("--help")
            .output()
            .expect("it starts");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        // What an address looks like is no example of use.
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        assert!(!examples.lines().any(has_a_password), "{program}: {examples}");
    }
    assert!(has_a_password("amqp://u:p@h/") && !has_a_password("amqp://u@h/%2f"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_take_passwords_of_any_letters() {
    let folder = Folder::new("compose");
    let password = "p/a@s:s#w%rd\"\\ $x'";
    let file = folder.write("password", format!("{password}\n"));
    let shims = folder.join("bin");
    std::fs::create_dir(&shims).expect("a folder");
    let shim = |name: &str, text: &str| {
        std::fs::write(shims.join(name), format!("#!/bin/sh\n{text}\n")).expect("a file");
        std::fs::set_permissions(shims.join(name), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    };
    shim(
        "docker-entrypoint.sh",
        r#"case $1 in rabbitmq-server) ;; *) exec "$@" ;; esac"#,
    );
    shim(
        "valkey-server",
        r#"exec "$(command -v redis-server || PATH=/usr/bin command -v valkey-server)" "$@""#,
    );
    let path = format!("{}:{}", shims.display(), std::env::var("PATH").unwrap_or_default());
    let script = |name: &str| {
        let mut command = std::process::Command::new(
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../deploy/compose")
                .join(name),
        );
        command
            .env("PATH", &path)
            .env("STORE_PASSWORD_FILE", &file)
            .env("BROKER_PASSWORD_FILE", &file);
        command
    };

    let port = free_port();
    let _store = Process::spawn(
        script("store")
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(folder.path()),
    );
    let login = |password: &str| {
        let settings = redis::RedisConnectionInfo::default().set_password(password);
        let address =
            redis::IntoConnectionInfo::into_connection_info(format!("redis://127.0.0.1:{port}")).expect("a URL");
        redis::Client::open(address.set_redis_settings(settings)).expect("a client")
    };
    eventually(Duration::from_secs(30), "the store takes the password", async || {
        login(password)
            .get_multiplexed_async_connection()
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    assert!(login("other").get_multiplexed_async_connection().await.is_err());

    let config = folder.join("advanced.config");
    let written = script("broker")
        .env("BROKER_CONFIG", &config)
        .status()
        .expect("it starts");
    assert!(written.success());
    let read = format!(
        r#"{{ok, [[{{rabbit, Settings}}]]}} = file:consult("{}"), proplists:get_value(default_pass, Settings)."#,
        config.display()
    );
    let told = shared_broker().await.ctl(&["eval", &read]).await;
    assert_eq!(told.trim(), format!("<<{password:?}>>"));
}
