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

/// The most types of one name in a crate. It may only shrink.
const MOST_OF_A_NAME: usize = 3;

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

/// The leaves of a use tree, and what each is called here: `a::{b, c::{self, d as e}}` has `a::b`, `a::c` and `a::c::d` as `e`.
fn leaves(tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, alias) = tree.split_once(" as ").unzip();
        let path: String = path.unwrap_or(tree).split_whitespace().collect();
        let path = path.trim_end_matches("::self").to_owned();
        let name = alias.map_or(path.rsplit("::").next().unwrap_or_default(), str::trim);
        return vec![(name.to_owned(), path.clone())];
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
    let text = text.find("mod tests {").map_or(text, |at| &text[..at]);
    let lines = text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at]));
    lines.collect::<Vec<_>>().join("\n")
}

fn belongs_to_a_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The names that a file imports, with the path of each as it is written there, and the other paths that it names.
fn named(text: &str) -> (Vec<(String, String)>, BTreeSet<String>) {
    let mut code = code(text);
    let mut imported = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("use ").map(|at| from + at) {
        from = at + "use ".len();
        let begins = at == 0 || code[..at].ends_with(['\n', ' ']);
        // A setting that is a group is written with the same word.
        let tree = code[from..].split(';').next().unwrap_or_default();
        let is_tree = |letter| belongs_to_a_name(letter) || ":{},* \n".contains(letter);
        if begins && tree.chars().all(is_tree) && !tree.contains(": ") {
            imported.extend(leaves(tree));
            code.replace_range(from..from + tree.len(), "");
        }
    }
    let mut paths = BTreeSet::new();
    for word in code.split(|letter| !belongs_to_a_name(letter) && letter != ':') {
        let path = word.trim_end_matches(':');
        if path.contains("::") && !path.starts_with(':') {
            paths.insert(path.to_owned());
        }
    }
    (imported, paths)
}

/// A crate's files, and what each name that a file imports stands for.
struct Crate {
    modules: BTreeSet<String>,
    imported: BTreeMap<(String, String), String>,
}

impl Crate {
    /// The files that a path leads through, as `module` names it: the one that is named, and those that it has the name from.
    fn leads_to(&self, module: &str, path: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.follow(module, path, &mut BTreeSet::new(), &mut found);
        found
    }

    /// Returns the path, absolute and without `crate`, once no import is left in it. Nothing where it leads out of the crate.
    fn follow(
        &self,
        module: &str,
        path: &str,
        seen: &mut BTreeSet<(String, String)>,
        found: &mut BTreeSet<String>,
    ) -> Option<String> {
        let mut parts = path.split("::").peekable();
        let mut at = match *parts.peek()? {
            "crate" => String::new(),
            "self" | "super" => module.to_owned(),
            first if self.knows(module, first) => module.to_owned(),
            _ => return None,
        };
        for part in parts {
            match part {
                "crate" | "self" => continue,
                "super" => {
                    at = at.rsplit_once("::").map_or("", |(outer, _)| outer).to_owned();
                    continue;
                }
                _ => {}
            }
            let inner = if at.is_empty() {
                part.to_owned()
            } else {
                format!("{at}::{part}")
            };
            let import = (at.clone(), part.to_owned());
            match self.imported.get(&import) {
                Some(of) if !self.modules.contains(&inner) => {
                    if !seen.insert(import) {
                        return Some(at);
                    }
                    if at != module {
                        found.insert(at.clone());
                    }
                    at = self.follow(&at, of, seen, found)?;
                }
                _ => at = inner,
            }
        }
        let mut file = at.as_str();
        while !self.modules.contains(file) {
            file = file.rsplit_once("::").map_or("", |(outer, _)| outer);
        }
        found.insert(file.to_owned());
        Some(at)
    }

    fn knows(&self, module: &str, name: &str) -> bool {
        let inner = if module.is_empty() {
            name.to_owned()
        } else {
            format!("{module}::{name}")
        };
        self.modules.contains(&inner) || self.imported.contains_key(&(module.to_owned(), name.to_owned()))
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

fn edges(files: &[(String, String)]) -> Edges {
    let named: Vec<_> = files.iter().map(|(module, text)| (module, named(text))).collect();
    let imports = named.iter().flat_map(|(module, (imported, _))| {
        imported
            .iter()
            .map(|(name, path)| (((*module).clone(), name.clone()), path.clone()))
    });
    let all = Crate {
        modules: files.iter().map(|(module, _)| module.clone()).collect(),
        imported: imports.collect(),
    };
    let mut edges = Edges::new();
    for (module, (imported, paths)) in &named {
        let taken = imported
            .iter()
            .map(|(_, path)| path)
            .chain(paths)
            .flat_map(|path| all.leads_to(module, path));
        let others = taken.filter(|other| !is_within(module, other) && !is_within(other, module));
        edges.insert((*module).clone(), others.collect());
    }
    edges
}

/// The files that lead to themselves, in rings: each file of a ring leads to each other.
fn rings(edges: &Edges) -> Vec<BTreeSet<String>> {
    let reached = |from: &str| {
        let (mut open, mut reached) = (vec![from.to_owned()], BTreeSet::new());
        while let Some(at) = open.pop() {
            let next = edges.get(&at).into_iter().flatten();
            open.extend(next.filter(|next| reached.insert((*next).clone())).cloned());
        }
        reached
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|from| (from.clone(), reached(from))).collect();
    let ring = |at: &String| {
        let others = reached[at].iter().filter(|other| reached[*other].contains(at));
        others.cloned().collect::<BTreeSet<_>>()
    };
    let rings: BTreeSet<_> = reached.keys().map(ring).filter(|ring| !ring.is_empty()).collect();
    rings.into_iter().collect()
}

/// Which file of a ring takes something from which.
fn shown(ring: &BTreeSet<String>, edges: &Edges) -> String {
    let lines = ring.iter().map(|file| {
        let others: Vec<_> = edges[file].intersection(ring).map(String::as_str).collect();
        format!("  {file} -> {}", others.join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn no_files_of_a_crate_take_from_each_other_in_a_circle() {
    let mut found = Vec::new();
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
        for (module, text) in &modules {
            let code = code(text).replace("use super::*;", "");
            assert!(
                !code.contains("::*;"),
                "{name}: {module} hides what it takes behind a `*`"
            );
        }
        let edges = edges(&modules);
        let rings = rings(&edges).into_iter();
        found.extend(rings.map(|ring| format!("{name}:\n{}", shown(&ring, &edges))));
    }
    assert!(found.is_empty(), "rings of files in\n{}", found.join("\n\n"));
}

/// The names of the types that a file declares.
fn declared(text: &str) -> Vec<String> {
    let code = code(text);
    let types = code.lines().filter_map(|line| {
        let line = line.trim_start();
        let (_, rest) = line
            .split_once("pub(")
            .and_then(|(_, rest)| rest.split_once(") "))
            .unwrap_or(("", line));
        let line = rest.strip_prefix("pub ").unwrap_or(rest);
        let named = ["struct ", "enum ", "trait ", "union "];
        let rest = named.into_iter().find_map(|word| line.strip_prefix(word))?;
        rest.split(|letter| !belongs_to_a_name(letter)).next()
    });
    types.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn no_name_stands_for_many_types_of_a_crate() {
    let text = "pub struct A;\n    pub(in crate::b) enum B {\nstruct C<'a>(u8);\n// enum D\nlet enumerated = 1;";
    assert_eq!(declared(text), ["A", "B", "C"]);
    let mut crowded = Vec::new();
    for (name, _) in CRATES {
        let mut files = Vec::new();
        rust_files(&root().join(name).join("src"), &mut files);
        let mut places = BTreeMap::<_, Vec<_>>::new();
        for file in files {
            if file.iter().any(|part| part == "tests" || part == "tests.rs") {
                continue;
            }
            for declared in declared(&fs::read_to_string(&file).unwrap()) {
                places.entry(declared).or_default().push(file.display().to_string());
            }
        }
        places.retain(|_, places| places.len() > MOST_OF_A_NAME);
        crowded.extend(
            places
                .into_iter()
                .map(|(ty, places)| format!("{name}: {ty} in {}", places.join(", "))),
        );
    }
    assert!(
        crowded.is_empty(),
        "too many types of one name:\n{}",
        crowded.join("\n")
    );
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
    let of = |files: &[(String, String)]| {
        let rings = rings(&edges(files)).into_iter();
        rings
            .map(|ring| ring.into_iter().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let two = [
        file("a", "use crate::b::B;"),
        file("b", "fn f() -> crate::a::A { todo() }"),
    ];
    assert_eq!(of(&two), ["a b"]);
    let grouped = [
        file("", "mod a; mod c;"),
        file("a::b", "use crate::{c::{self, D}, e::F};"),
        file("c", "use std::fmt;\nuse crate::\n    a::b;"),
        file("e", ""),
    ];
    assert_eq!(of(&grouped), ["a::b c"]);
    let relative = [file("a::b", "use super::c::C;"), file("a::c", "use super::b;")];
    assert_eq!(of(&relative), ["a::b a::c"]);
    // What a folder shows of its files is theirs, however long the way is, and whatever it is called on it.
    let shown = [
        file("", "mod a;\nmod d;\npub use a::C as Door;"),
        file(
            "a",
            "mod b;\nmod c;\npub use b::B;\npub(crate) use self::c::{C, Other as D};",
        ),
        file("a::b", "use super::{D, E as F};"),
        file("a::c", "use crate::a::B;"),
        file("d", "use crate::Door;"),
    ];
    assert_eq!(of(&shown), ["a::b a::c"]);
    let through_a_module = [
        file("a", "use crate::b as other;\nfn f() -> other::C {}"),
        file("b", "mod c;\npub use c::C;"),
        file("b::c", "fn f() {\n    use crate::a;\n    a::g()\n}"),
    ];
    assert_eq!(of(&through_a_module), ["a b::c"]);
    let from_outside = [
        file("a", "pub use b::C;\nuse std::fmt as b;"),
        file("c", "use crate::a::C;"),
    ];
    assert!(of(&from_outside).is_empty());
    // What a folder shows of itself is its own, and tests and comments take what they like.
    let fine = [
        file("a", "pub use self::b::B;\nuse crate::c;"),
        file("a::b", "use super::A;"),
        file(
            "c",
            "// use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
        ),
    ];
    assert!(of(&fine).is_empty());
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
