//! How the code hangs together: no circle of files, and no folder that no one finds his way in.
//!
//! A file and the folder that it opens are one interface, so what a module takes from those that it lies in, or that lie in
//! it, is no edge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, and what their root is called.
const CRATES: [(&str, &str); 5] = [
    ("shared", "lib"),
    ("terminator", "lib"),
    ("worker", "lib"),
    ("cli", "main"),
    (TESTKIT, "lib"),
];

/// What tests stand on, and no program does.
const TESTKIT: &str = "tests/testkit";

/// What a crate must not know, by what it would need for that: the other programs, sockets, tokens, the store, the broker's library.
const MUST_NOT_USE: [(&str, &[&str]); 3] = [
    (
        "shared",
        &["terminator", "worker", "tokio-tungstenite", "jsonwebtoken", "redis"],
    ),
    ("terminator", &["worker", "jsonwebtoken", "redis", "lapin"]),
    ("worker", &["terminator", "tokio-tungstenite", "lapin"]),
];

/// The most entries of a folder of code.
const MOST_ENTRIES: usize = 16;

/// Which files a file takes something from, by their module paths.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The path of the module that a file is, `a::b`; that of the root is empty.
fn module_of(source: &Path, file: &Path, root: &str) -> String {
    let relative = file.strip_prefix(source).unwrap().with_extension("");
    let mut parts: Vec<_> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == [root] {
        parts.pop();
    }
    parts.join("::")
}

/// The leaves of a use tree: `a::{b, c::{self, d}}` has `a::b`, `a::c` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        let path: String = path.split_whitespace().collect();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, byte) in inner.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                let part = inner[from..at].trim();
                from = at + 1;
                if !part.is_empty() {
                    found.extend(leaves(&format!("{}{part}", &tree[..open])));
                }
            }
            _ => {}
        }
    }
    found
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at]);
    let lines = text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at]));
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths in the crate that a file names: absolute, and without `crate`.
fn paths(module: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut found = Vec::new();
    for head in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(head) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before)) {
                continue;
            }
            let is_use = code[..at].ends_with("use ");
            let rest = &code[at..];
            let end = match is_use {
                true => rest.find(';'),
                false => rest.find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter)),
            };
            found.extend(leaves(&rest[..end.unwrap_or(rest.len())]));
        }
    }
    found.into_iter().filter_map(|path| absolute(module, &path)).collect()
}

fn absolute(module: &str, path: &str) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path.split("::").peekable();
    match rest.next()? {
        "crate" => base.clear(),
        "self" => {}
        _ => {
            base.pop()?;
            while rest.next_if_eq(&"super").is_some() {
                base.pop()?;
            }
        }
    }
    Some(base.into_iter().chain(rest).collect::<Vec<_>>().join("::"))
}

fn is_within(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

fn edges(files: &[(String, String)]) -> Edges {
    let modules: BTreeSet<&str> = files.iter().map(|(module, _)| module.as_str()).collect();
    let mut edges = Edges::new();
    for (module, text) in files {
        let taken = paths(module, text).into_iter().filter_map(|path| {
            let mut path = path.as_str();
            while !modules.contains(path) {
                path = path.rsplit_once("::").map_or("", |(outer, _)| outer);
            }
            (!is_within(module, path) && !is_within(path, module)).then(|| path.to_owned())
        });
        edges.insert(module.clone(), taken.collect());
    }
    edges
}

/// A circle, if there is one: each takes something of the next, and the last of the first.
fn circle(edges: &Edges) -> Option<Vec<String>> {
    fn visit<'a>(at: &'a str, edges: &'a Edges, way: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) -> bool {
        if let Some(begin) = way.iter().position(|before| *before == at) {
            way.drain(..begin);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        way.push(at);
        if edges
            .get(at)
            .is_some_and(|next| next.iter().any(|next| visit(next, edges, way, done)))
        {
            return true;
        }
        way.pop();
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    let found = edges.keys().any(|module| visit(module, edges, &mut way, &mut done));
    found.then(|| way.into_iter().map(str::to_owned).collect())
}

#[test]
fn no_files_of_a_crate_take_from_each_other_in_a_circle() {
    for (name, crate_root) in CRATES {
        let source = root().join(name).join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        let modules: Vec<_> = files
            .iter()
            .map(|file| (module_of(&source, file, crate_root), fs::read_to_string(file).unwrap()))
            .filter(|(module, _)| !module.split("::").any(|part| part == "tests"))
            .collect();
        assert!(modules.len() > 10, "{name} has files");
        let circle = circle(&edges(&modules));
        assert!(circle.is_none(), "{name}: {}", circle.unwrap_or_default().join(" -> "));
    }
}

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    for (name, forbidden) in MUST_NOT_USE {
        let used = dependencies(name);
        assert!(used.contains("tokio"), "{name} has dependencies");
        for other in forbidden {
            assert!(!used.contains(*other), "{name} must not depend on {other}");
        }
    }
}

/// Test doubles, suites and injected faults are in a crate of their own; so what is tested is what is shipped.
#[test]
fn no_program_has_what_only_tests_stand_on() {
    for (name, _) in CRATES.into_iter().filter(|(name, _)| *name != TESTKIT) {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("testkit"), "{name} depends on it");
        let mut files = Vec::new();
        rust_files(&root().join(name).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("any(test, "),
                "{}: for others' tests, too",
                file.display()
            );
            // By which seeds do the same again, and nothing else.
            let may = file.ends_with("shared/src/service/chance.rs");
            assert!(
                may || !text.contains("cfg(feature"),
                "{}: for some builds alone",
                file.display()
            );
        }
    }
}

/// What the manifest of a crate names.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
    let lines = dependencies.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// It is a workspace of its own, which nothing else builds.
#[test]
fn the_fuzzer_has_all_that_the_programs_have_come_to_depend_on() {
    let lock = fs::read_to_string(root().join("tests/fuzz/Cargo.lock")).unwrap();
    for (name, _) in MUST_NOT_USE {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\n")).unwrap();
        let (package, _) = rest.split_once("\n]").unwrap();
        let locked: BTreeSet<_> = package.split('"').filter_map(|text| text.split(' ').next()).collect();
        let lacking: Vec<_> = dependencies(name)
            .into_iter()
            .filter(|dependency| !locked.contains(&**dependency))
            .collect();
        assert!(
            lacking.is_empty(),
            "tests/fuzz/Cargo.lock lacks {lacking:?} of {name}: run cargo metadata in tests/fuzz"
        );
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let file = |module: &str, text: &str| (module.to_owned(), text.to_owned());
    let of = |files: &[(String, String)]| circle(&edges(files));
    let two = [
        file("a", "use crate::b::B;"),
        file("b", "fn f() -> crate::a::A { todo() }"),
    ];
    assert_eq!(of(&two), Some(vec!["a".to_owned(), "b".to_owned()]));
    let grouped = [
        file("", "mod a; mod c;"),
        file("a::b", "use crate::{c::{self, D}, e::F};"),
        file("c", "use std::fmt;\nuse crate::\n    a::b;"),
        file("e", ""),
    ];
    assert_eq!(of(&grouped), Some(vec!["a::b".to_owned(), "c".to_owned()]));
    let relative = [file("a::b", "use super::c::C;"), file("a::c", "use super::b;")];
    assert!(of(&relative).is_some());
    // What a folder shows of itself is its own, and tests and comments take what they like.
    let fine = [
        file("a", "pub use self::b::B;\nuse crate::c;"),
        file("a::b", "use super::A;"),
        file(
            "c",
            "// use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
        ),
    ];
    assert_eq!(of(&fine), None);
}

#[test]
fn no_folder_of_code_has_so_many_entries_that_they_must_be_searched() {
    let mut folders: Vec<_> = [
        "shared/src",
        "terminator/src",
        "worker/src",
        "cli/src",
        "tests/src",
        "tests/claims",
        "tests/testkit/src",
        "clients/conformance",
        "clients/javascript/src",
        "clients/javascript/test",
        "clients/python/src",
        "clients/python/tests",
    ]
    .map(|folder| root().join(folder))
    .into();
    while let Some(folder) = folders.pop() {
        let entries: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            // What Python has compiled.
            .filter(|path| !path.ends_with("__pycache__"))
            .collect();
        let (shown, count) = (folder.display(), entries.len());
        assert!(count <= MOST_ENTRIES, "{shown} has {count} entries");
        folders.extend(entries.into_iter().filter(|entry| entry.is_dir()));
    }
}
