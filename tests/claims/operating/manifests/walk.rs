//! An operator's walk: what the pages say of units, containers and clusters is so.

use shared::service::config::Config;
use terminator::TerminatorConfig;
use worker::config::WorkerConfig;

use super::{compose, default_of, read};

fn port_of<T: Config>(setting: &str) -> u16 {
    let (_, port) = default_of::<T>(setting).rsplit_once(':').expect("an address");
    port.parse().expect("a port")
}

/// The ports of this machine that a text names, as in `http://127.0.0.1:9090/metrics`.
fn ports(text: &str) -> Vec<u16> {
    let behind = text.split("http://127.0.0.1:").skip(1);
    let digits = behind.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    digits.map(|port| port.parse().expect("a port")).collect()
}

/// The ports outside, first and last, of the one inside of a service.
fn outside(service: &str, inside: u16) -> (u16, u16) {
    let ports = compose()["services"][service]["ports"].clone();
    let found = ports.as_array().expect("ports").iter().find_map(|port| {
        let rest = port.as_str()?.strip_suffix(&format!(":{inside}"))?;
        let range = rest.strip_prefix("127.0.0.1:")?;
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    found.unwrap_or_else(|| panic!("{service} shows nothing of {inside}"))
}

#[test]
fn units_are_tried_until_they_start_and_the_first_worker_has_the_port_that_pages_print() {
    for unit in ["countersign-terminator.service", "countersign-worker@.service"] {
        let text = read(&format!("deploy/systemd/{unit}"));
        let (of_unit, of_service) = text.split_once("[Service]").expect("a service");
        // Five starts in ten seconds, which a port that is held takes, are the last by systemd's default.
        assert!(of_unit.contains("\nStartLimitIntervalSec=0\n"), "{unit}");
        assert!(of_service.contains("\nRestart=always\n"), "{unit}");
        // `%d` is not known before, and this says so.
        assert!(text.contains("systemd 250 or newer"), "{unit}");
    }
    let worker = read("deploy/systemd/countersign-worker@.service");
    let listens = worker
        .lines()
        .find_map(|line| line.strip_prefix("Environment=COUNTERSIGN_ADMIN_LISTEN="));
    let first = listens.expect("a port of its own").replace("%i", "1");
    assert_eq!(first, default_of::<WorkerConfig>("admin-listen"));
}

#[test]
fn pages_for_the_night_print_ports_that_something_listens_on() {
    let admin = [
        port_of::<TerminatorConfig>("admin-listen"),
        port_of::<WorkerConfig>("admin-listen"),
    ];
    let prometheus = outside("prometheus", 9090).0;
    let mut seen = 0;
    for page in ["docs/runbook.md", "docs/updating.md", "docs/credentials.md"] {
        for port in ports(&read(page)) {
            seen += 1;
            assert!(admin.contains(&port) || port == prometheus, "{page}: {port}");
        }
    }
    assert!(seen > 40, "only {seen} ports were found: the claim has gone blind");
}

#[test]
fn the_runbook_says_how_its_commands_are_typed_in_compose() {
    let runbook = read("docs/runbook.md");
    let rows = runbook.lines().filter(|line| line.starts_with("| `"));
    let in_compose: Vec<_> = rows.filter_map(|row| row.split(" | ").nth(1)).collect();
    assert!(in_compose.len() > 10, "{in_compose:?}");
    let says = |text: &str| in_compose.iter().any(|cell| cell.contains(text));
    for (service, port) in [
        ("terminator", port_of::<TerminatorConfig>("admin-listen")),
        ("worker", port_of::<WorkerConfig>("admin-listen")),
    ] {
        let (first, last) = outside(service, port);
        assert!(says(&format!("{first} to {last}")), "{service}: {first} to {last}");
    }
    // The store has a password, which its health check knows how to take.
    let check = compose()["services"]["store"]["healthcheck"]["test"][3].clone();
    let check = check.as_str().expect("a command").replace("$$", "$");
    let command = check.strip_suffix(" ping").expect("it asks for a pong");
    assert!(
        says(&format!("docker compose exec store sh -c '{command} …'")),
        "{command}"
    );
    let services = compose()["services"].as_object().expect("services").clone();
    for cell in &in_compose {
        for rest in cell.split(" exec ").skip(1) {
            let service = rest.split(' ').next().unwrap_or_default();
            assert!(services.contains_key(service), "there is no {service}: {cell}");
        }
    }
}

#[test]
fn a_cluster_has_the_namespace_before_anything_is_compared_with_it() {
    let page = read("deploy/kubernetes/README.md");
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("kubectl apply -f deploy/kubernetes/base/namespace.yaml") < place("kubectl diff -k"));
}
