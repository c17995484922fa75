//! The documents refer to what is there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Every document, by its path from the root.
const DOCUMENTS: [&str; 12] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONFIG.md",
    "clients/conformance/README.md",
    "clients/javascript/README.md",
    "clients/python/README.md",
    "deploy/kubernetes/README.md",
    "docs/authority.md",
    "docs/migrating.md",
    "docs/permissions.md",
    "docs/runbook.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The anchor that GitHub and others make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_this_repository() {
    let mut seen = 0;
    for document in DOCUMENTS {
        let path = root().join(document);
        let text = read(&path);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{document}: {link}");
            let known = heading.is_empty() || anchors(&read(&target)).contains(heading);
            assert!(known, "{document}: {link}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} links were found: the claim has gone blind");
}
