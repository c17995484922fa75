//! The documents refer to what is there, and each can be found.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The documents outside `docs/`, by their paths from the root.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONFIG.md",
    "clients/conformance/README.md",
    "clients/javascript/README.md",
    "clients/python/README.md",
    "deploy/kubernetes/README.md",
];

/// Those that name files of code, each of them by the end of its path.
const OF_CODE: [&str; 3] = ["ARCHITECTURE.md", "docs/decisions.md", "docs/topology.md"];

/// The most lines of those that are read first.
const MOST_LINES: [(&str, usize); 2] = [("README.md", 250), ("ARCHITECTURE.md", 200)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of `docs/`, by their names.
fn pages() -> Vec<String> {
    let entries = fs::read_dir(root().join("docs")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    names.filter(|name| name.ends_with(".md")).collect()
}

fn documents() -> Vec<String> {
    let pages = pages().into_iter().map(|name| format!("docs/{name}"));
    DOCUMENTS.map(str::to_owned).into_iter().chain(pages).collect()
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

/// Every file of our own code below a folder, by its path.
fn code(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
            code(&path, found);
        } else if path.is_file() {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_this_repository() {
    let mut seen = 0;
    for document in documents() {
        let path = root().join(&document);
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
    assert!(seen > 150, "only {seen} links were found: the claim has gone blind");
}

#[test]
fn every_page_is_in_the_list_of_contents() {
    let contents = read(&root().join("docs/README.md"));
    for page in pages().iter().filter(|page| *page != "README.md") {
        assert!(
            contents.contains(&format!("]({page})")),
            "{page} is not in docs/README.md"
        );
    }
}

#[test]
fn every_file_of_code_that_a_document_names_is_there() {
    let (mut files, mut seen) = (Vec::new(), 0);
    code(&root(), &mut files);
    for document in OF_CODE {
        let text = read(&root().join(document));
        let spans = text.split('`').skip(1).step_by(2);
        for name in spans.filter(|span| span.ends_with(".rs") && !span.contains([' ', '*'])) {
            let end = format!("/{name}");
            assert!(files.iter().any(|file| file.ends_with(&end)), "{document}: {name}");
            seen += 1;
        }
    }
    assert!(seen > 80, "only {seen} files were found: the claim has gone blind");
}

#[test]
fn what_is_read_first_is_short() {
    for (document, most) in MOST_LINES {
        let lines = read(&root().join(document)).lines().count();
        assert!(lines <= most, "{document} has {lines} lines");
    }
}

/// The metrics that a text names, whole (`countersign_ready`) or by the end of their names (`…refused_total`).
fn metrics(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut named = BTreeSet::new();
    for code in text.split('`').skip(1).step_by(2) {
        let (name, is_end) = match code.strip_prefix('…') {
            Some(end) => (end, true),
            None => (code, false),
        };
        let name = name.split(|c| !is_of_name(c)).next().unwrap_or_default();
        let is_whole = name.starts_with("countersign_") && !name.ends_with('_');
        if is_whole || is_end && name.ends_with("_total") {
            named.insert(name.to_owned());
        }
    }
    named
}

#[test]
fn every_metric_that_a_page_names_is_one() {
    let help = fs::read_to_string(root().join("shared/src/service/telemetry/help.txt")).expect("the list of metrics");
    let known: BTreeSet<_> = help.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut pages: Vec<_> = DOCUMENTS.iter().map(|page| root().join(page)).collect();
    for entry in fs::read_dir(root().join("docs")).expect("the pages") {
        pages.push(entry.expect("a page").path());
    }
    let mut seen = 0;
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
    {
        let text = fs::read_to_string(page).expect("a page");
        for name in metrics(&text) {
            let whole = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part));
            let is_known = known.contains(whole.unwrap_or(&name))
                || known.contains(name.as_str())
                || !name.starts_with("countersign_") && known.iter().any(|metric| metric.ends_with(&name));
            assert!(is_known, "{}: there is no {name}", page.display());
            seen += 1;
        }
    }
    assert!(seen > 80, "only {seen} were found: the claim has gone blind");
    let named = metrics(
        "`countersign_ready` `countersign_a_total{x=\"1\"}` `…b_total` `countersign_{a,b}_c` `countersign ready` `…c`",
    );
    assert_eq!(
        named.into_iter().collect::<Vec<_>>(),
        ["b_total", "countersign_a_total", "countersign_ready"]
    );
}
