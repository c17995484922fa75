//! The dashboard and the alerts ask for what terminators and workers tell, and the runbook knows each alert.

mod promql;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use tests::nodes::program::Kind;
use tests::servers::certificate::{certificate, private_key};
use tests::{Program, Span, Stack, eventually, token_for};

use super::monitoring::promql::{grouped_by, selectors};
use super::printed::printed;

/// With what all metrics of ours begin.
const PREFIX: &str = "countersign_";
/// With what those begin that the operating system tells of a process.
const OF_A_PROCESS: &str = "process_";
/// Labels that Prometheus gives to what it reads, by its own configuration.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All alerts, one by one.
fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("deploy/prometheus/alerts.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules"))
        .cloned()
        .collect()
}

/// Every text under one of these names, wherever it stands.
fn texts_of<'v>(value: &'v Value, names: &[&str], found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if names.contains(&name.as_str()) => found.push(text),
                    _ => texts_of(member, names, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts_of(item, names, found)),
        _ => {}
    }
}

/// What is told of a metric: each label, with its values.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// What a terminator and a worker tell that have done a little of everything.
async fn told() -> BTreeMap<String, Labels> {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    client.request("echo", None, json!(1)).await;
    // The end of a certificate is told by the one who has one.
    let (certificate, key) = (certificate(), private_key());
    let settings = [
        ("listen", "127.0.0.1:0"),
        ("admin-listen", "127.0.0.1:0"),
        ("amqp-url", &stack.broker().url()),
        ("namespace", stack.namespace()),
        ("tls-cert", certificate.to_str().unwrap()),
        ("tls-key", key.to_str().unwrap()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut encrypted = Program::spawn(Kind::Terminator, &settings);
    encrypted.ready().await;
    let program = [&stack.terminators()[0], &stack.workers()[0], &encrypted];
    eventually(60.s(), "confirms and queues are measured", async || {
        let mut told: BTreeMap<String, Labels> = BTreeMap::new();
        for program in program {
            for sample in program.metrics().await.into_keys() {
                let (name, labels) = sample.split_once('{').unwrap_or((&sample, ""));
                let known = told.entry(name.to_owned()).or_default();
                for pair in labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
                    let (label, value) = pair.split_once('=').expect("a label and a value");
                    known
                        .entry(label.to_owned())
                        .or_default()
                        .insert(value.trim_matches('"').to_owned());
                }
            }
        }
        let measured = |name: &str| told.contains_key(name);
        if measured("countersign_worker_queue_messages")
            && measured("countersign_terminator_publish_confirm_duration_seconds_bucket")
            && measured("countersign_worker_publish_confirm_duration_seconds_bucket")
        {
            Ok(told)
        } else {
            Err(told.into_keys().collect::<Vec<_>>())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboard_and_the_alerts_is_told() {
    let told = told().await;
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/countersign.json")).expect("JSON");
    let alerts = Value::Array(alerts());
    for (source, at_least) in [(&dashboard, 50), (&alerts, 15)] {
        let mut expressions = Vec::new();
        texts_of(source, &["expr", "query"], &mut expressions);
        let mut seen = 0;
        for expression in expressions {
            let mut asked = selectors(expression, PREFIX);
            asked.extend(selectors(expression, OF_A_PROCESS));
            seen += asked.len();
            let mut labels: BTreeSet<&str> = OF_PROMETHEUS.into();
            for selector in &asked {
                let known = told.get(&selector.metric);
                let known = known.unwrap_or_else(|| panic!("nobody tells {}: {expression}", selector.metric));
                labels.extend(known.keys().map(String::as_str));
                for matcher in selector
                    .matchers
                    .iter()
                    .filter(|one| !OF_PROMETHEUS.contains(&one.label.as_str()))
                {
                    let values = known
                        .get(&matcher.label)
                        .unwrap_or_else(|| panic!("{selector:?} has {known:?}"));
                    for value in &matcher.values {
                        assert!(values.contains(value), "{selector:?}: {values:?}");
                    }
                }
            }
            for label in grouped_by(expression) {
                assert!(
                    asked.is_empty() || labels.contains(label.as_str()),
                    "{label} in {expression}: {labels:?}"
                );
            }
        }
        assert!(
            seen >= at_least,
            "only {seen} metrics were found: the claim has gone blind"
        );
    }
    for (line, pattern) in sought() {
        for name in alternatives(&pattern) {
            let is_told = told.keys().any(|known| format!("{known} ").contains(&name));
            assert!(is_told, "nobody tells {name:?}: {line}");
        }
    }
}

/// What the runbook says to look for in metrics, each with its line.
fn sought() -> Vec<(String, String)> {
    let lines = printed("docs/runbook.md").into_iter();
    let sought: Vec<_> = lines
        .filter(|(line, words)| line.contains("/metrics") && words[0] == "grep")
        .map(|(line, mut words)| (line, words.pop().expect("a pattern")))
        .collect();
    assert!(
        sought.len() > 20,
        "only {} patterns were found: the claim has gone blind",
        sought.len()
    );
    sought
}

/// The texts that a pattern finds: `a|b_(c|d)` finds `a`, `b_c` and `b_d`.
fn alternatives(pattern: &str) -> Vec<String> {
    let Some((before, (inner, after))) = pattern
        .split_once('(')
        .and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
    else {
        return pattern.split('|').map(str::to_owned).collect();
    };
    let (others, head) = before.rsplit_once('|').unwrap_or(("", before));
    let (tail, more) = after.split_once('|').unwrap_or((after, ""));
    let within = inner.split('|').map(|one| format!("{head}{one}{tail}"));
    let beside = [others, more].into_iter().filter(|part| !part.is_empty());
    within.chain(beside.flat_map(alternatives)).collect()
}

/// What the autoscalers of Kubernetes ask for.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_by_which_pods_are_scaled_is_told() {
    let told = told().await;
    for name in ["terminator", "worker"] {
        let scaler: Value =
            serde_saphyr::from_str(&read(&format!("deploy/kubernetes/components/hpa/{name}.yaml"))).expect("YAML");
        let metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
            .as_str()
            .expect("a name");
        let known = told.contains_key(metric) || told.contains_key(&format!("{metric}_sum"));
        assert!(known, "nobody tells {metric}");
    }
}

/// Seconds of a time as Prometheus writes it: `1h30m`.
fn seconds(text: &str) -> u64 {
    let (mut all, mut number) = (0, 0);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = number * 10 + u64::from(digit);
            continue;
        }
        let unit = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
            .into_iter()
            .find(|(letter, _)| *letter == c);
        all += number * unit.unwrap_or_else(|| panic!("{text}: a unit")).1;
        number = 0;
    }
    assert_eq!(number, 0, "{text}: a unit is missing");
    all
}

/// promtool runs them; that there are enough is for us to see. One test shows all of it: what two show may be of different causes.
#[test]
fn every_alert_is_tested_to_be_quiet_to_fire_to_stay_and_to_resolve() {
    let tests: Value = serde_saphyr::from_str(&read("deploy/prometheus/alerts.test.yaml")).expect("YAML");
    // Of each alert, what each test sees of it from one time to the next: whether it fires.
    let mut seen: BTreeMap<String, Vec<Vec<bool>>> = BTreeMap::new();
    for test in tests["tests"].as_array().expect("tests") {
        let mut looks: BTreeMap<String, BTreeMap<u64, bool>> = BTreeMap::new();
        for look in test["alert_rule_test"].as_array().expect("looks") {
            let name = look["alertname"].as_str().expect("a name").to_owned();
            let fires = look["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            let at = seconds(look["eval_time"].as_str().expect("a time"));
            looks.entry(name).or_default().insert(at, fires);
        }
        for (name, looks) in looks {
            seen.entry(name).or_default().push(looks.into_values().collect());
        }
    }
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        let always = alert["labels"]["severity"] == "heartbeat";
        let is_shown = |looks: &Vec<bool>| {
            let stays = looks.windows(2).any(|pair| pair == [true, true]);
            stays && (always || [looks.first(), looks.last()] == [Some(&false); 2])
        };
        let shown = seen.get(name).is_some_and(|tests| tests.iter().any(is_shown));
        assert!(
            shown,
            "{name}: no test of its own sees it quiet, firing, firing still, and resolved"
        );
    }
}

#[test]
fn what_is_gone_pages_also_by_its_absence() {
    for (job, name) in [
        ("terminator", "CountersignNoTerminator"),
        ("worker", "CountersignNoWorker"),
    ] {
        let alert = alerts().into_iter().find(|alert| alert["alert"] == name).expect("it");
        let expression = alert["expr"].as_str().expect("an expression");
        assert!(
            expression.contains(&format!("countersign-{job}")) && expression.contains("or vector(0)"),
            "{name}"
        );
        assert_eq!(alert["labels"]["severity"], "page");
    }
}

/// A counter's rate is above zero for as long as its window after one event.
#[test]
fn a_page_on_a_counter_lasts_longer_than_the_window_that_it_looks_at() {
    let minutes = |text: &str| text.strip_suffix('m').and_then(|count| count.parse::<u32>().ok());
    let mut seen = 0;
    for alert in alerts()
        .into_iter()
        .filter(|alert| alert["labels"]["severity"] == "page")
    {
        let expression = alert["expr"].as_str().expect("an expression");
        for window in expression.split('[').skip(1).filter_map(|rest| rest.split(']').next()) {
            seen += 1;
            let wait = alert["for"].as_str().and_then(minutes);
            assert!(wait > minutes(window), "{}: one event is a page", alert["alert"]);
        }
    }
    assert!(seen >= 4, "only {seen} windows were found: the claim has gone blind");
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_says_how_urgent_it_is() {
    let runbook = read("docs/runbook.md");
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: BTreeSet<_> = sections.filter(|section| section.starts_with("Countersign")).collect();
    let (introduction, _) = runbook.split_once("\n## ").expect("sections");
    let mut names = BTreeSet::new();
    let alerts = alerts();
    for alert in &alerts {
        let name = alert["alert"].as_str().expect("a name");
        names.insert(name);
        let words = introduction.split(|letter: char| !letter.is_alphanumeric());
        let pages = alert["labels"]["severity"] == "page";
        assert_eq!(
            words.into_iter().any(|word| word == name),
            pages,
            "{name}: it is said at the top whether it can wait"
        );
        // A heading's anchor is its text in lower case.
        let anchor = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], anchor, "{name}");
        assert!(alert["annotations"]["summary"].is_string(), "{name}");
        assert!(
            ["page", "ticket", "heartbeat"]
                .iter()
                .any(|known| alert["labels"]["severity"] == *known),
            "{name}"
        );
    }
    assert_eq!(names.len(), alerts.len(), "each name once");
    assert_eq!(names, sections);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_a_help() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    client.request("echo", None, json!(1)).await;
    for program in [&stack.terminators()[0], &stack.workers()[0]] {
        let text = program.get("/metrics").await.body;
        let named = |word: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("# {word} ")));
            lines
                .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
                .collect()
        };
        let (types, helps) = (named("TYPE"), named("HELP"));
        assert!(types.len() > 20, "{text}");
        let silent: Vec<_> = types.difference(&helps).collect();
        assert!(silent.is_empty(), "no # HELP: {silent:?}");
    }
}

/// Texts in code that are names of metrics of ours.
fn named_metrics(code: &str) -> BTreeSet<String> {
    let is_name = |text: &&str| {
        let of_ours = ["terminator_", "worker_"].iter().any(|program| {
            text.strip_prefix(PREFIX)
                .is_some_and(|rest| rest.starts_with(program) && rest.len() > program.len())
        });
        of_ours && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    code.split('"').filter(is_name).map(str::to_owned).collect()
}

#[test]
fn metrics_that_only_some_deployments_tell_have_a_help_too() {
    let help = read("shared/src/service/telemetry/help.txt");
    let described: BTreeSet<&str> = help.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut folders: Vec<_> = ["shared/src", "terminator/src", "worker/src"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder))
        .into();
    let mut seen = 0;
    while let Some(path) = folders.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            folders.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name.ends_with(".rs") {
            for metric in named_metrics(&std::fs::read_to_string(&path).unwrap()) {
                assert!(described.contains(metric.as_str()), "{}: {metric}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "only {seen} were found");
}
