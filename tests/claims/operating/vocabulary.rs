//! One vocabulary: words that standard ones have replaced do not come back.
//!
//! A reader who knows RFC 6455, RFC 7519 and AMQP 0-9-1 searches for "expired", "dead letter" and "hash". So names in code
//! are the field's own, settings and metrics keep the names that they have now, and what people read is plain English.

use std::fs;
use std::path::{Path, PathBuf};

/// A word, and the files in which it stands for itself.
type Word = (&'static str, &'static [&'static str]);

/// Names in code that others have replaced, and the beginnings of paths where each means something else.
const NAMES: [Word; 59] = [
    ("Asker", &[]),
    ("Binding", &[]),
    ("Bouncer", &[]),
    ("Brought", &[]),
    ("Common", &[]),
    ("Contents", &[]),
    ("Departed", &[]),
    ("Dice", &[]),
    ("Doorkeeper", &[]),
    ("Ending", &[]),
    ("Epitaph", &[]),
    ("Errand", &[]),
    ("Exhibit", &[]),
    ("Guarded", &[]),
    ("House", &[]),
    ("Inquiry", &[]),
    ("Intake", &[]),
    ("Keeper", &[]),
    ("LinkBoard", &[]),
    ("Listening", &[]),
    ("Loading", &[]),
    ("Lookout", &[]),
    ("Misshapen", &[]),
    ("Mover", &[]),
    ("Noted", &[]),
    ("Outward", &[]),
    ("Past", &[]),
    ("Patience", &[]),
    ("Peer", &[]),
    ("Pile", &[]),
    ("Putting", &[]),
    ("Question", &[]),
    ("Recorder", &[]),
    ("Rooms", &[]),
    ("Sockets", &[]),
    ("Stamp", &[]),
    ("Teller", &[]),
    ("Undertaker", &[]),
    ("Way", &[]),
    ("bequeath", &[]),
    ("bouncer", &[]),
    ("epitaph", &[]),
    ("exhibit", &[]),
    ("farewell", &[]),
    ("heir", &[]),
    ("household", &[]),
    ("inquiry", &[]),
    ("keeper", &[]),
    ("sameness", &[]),
    ("seam", &[]),
    ("see_off", &[]),
    ("undertaker", &[]),
    ("Standing", &[]),
    ("errand", &[]),
    ("errands", &[]),
    ("question", &[]),
    ("questions", &[]),
    ("stamp", &[]),
    ("stamps", &[]),
];

/// The same of names with another meaning somewhere: shares of places, seats of simulated clients, lines of a history.
const NAMES_APART: [Word; 8] = [
    ("Seat", &["tests/"]),
    ("Shares", &["worker/src/handler/places/", "worker/src/app/consumers.rs"]),
    ("Outside", &["tests/claims/hostile/"]),
    ("Revoking", &["tests/simulation/"]),
    ("Notice", &["cli/src/inspect/dead/"]),
    ("Trouble", &["worker/src/store/redis/"]),
    (
        "Fate",
        &["terminator/src/session/returned.rs", "tests/simulation/order/"],
    ),
    ("Line", &["cli/src/dev/tests.rs", "cli/src/send/", "tests/"]),
];

/// Settings, types, headers, flags and metrics that others have replaced, and where they are still read.
const ON_THE_SURFACE: [Word; 25] = [
    ("--as-it-is", &[]),
    ("answers_lost_total", &[]),
    (
        "auth.forget",
        &[
            "worker/src/message/",
            "shared/src/wire/protocol/mod.rs",
            "terminator/src/connection/looks.rs",
        ],
    ),
    ("broker-patience", FORMER_SETTINGS),
    ("confirm_seconds", &[]),
    ("connections_without_answer", &[]),
    ("fetches_total", &[]),
    ("fresh_tokens_asked", &[]),
    ("given_back_total", &[]),
    ("handling_seconds", &[]),
    ("heirs_woken", &[]),
    ("held_ended", &[]),
    ("holds_given_up", &[]),
    ("jwks-ttl", FORMER_SETTINGS),
    ("key_readings", &[]),
    ("lapses_total", &[]),
    ("messages_sent_again", &[]),
    ("notes_lost_total", &[]),
    ("releases_total", &[]),
    ("revocations_heard", &[]),
    ("revocations_known", &[]),
    ("send-again", &[]),
    ("trace-ratio", FORMER_SETTINGS),
    ("verdicts_total", &[]),
    ("wakes_total", &[]),
];

/// Settings go by their former names, too.
const FORMER_SETTINGS: &[&str] = &["shared/src/service/config/", "tests/claims/operating/settings.rs"];

/// What no page, no text of a program and no comment says: riddles, and words of our own.
const NEVER_SAID: [Word; 15] = [
    ("anybody", &[]),
    ("had better", &[]),
    ("in its name", &[]),
    ("just now", &[]),
    ("lapse", &[]),
    ("lapsed", &[]),
    ("mend", &[]),
    ("mended", &[]),
    ("mends", &[]),
    ("nobody", &[]),
    ("nothing if", &[]),
    ("somebody", &[]),
    ("take back", &[]),
    ("taken back", &[]),
    ("whoever", &[]),
];

/// What no page and no text of a program says besides.
const NOT_SAID: [Word; 3] = [
    ("everybody", &["cli/src/support/dev_key.rs"]),
    ("in the name of", &[]),
    ("whose", &[]),
];

/// What no comment says besides. There, "whose" is good English.
const NOT_IN_COMMENTS: [Word; 3] = [
    ("everybody", &[]),
    (
        "in the name of",
        &["shared/src/bus/topology.rs", "cli/src/queues/plan.rs"],
    ),
    ("whomever", &[]),
];

/// The pages, besides those of `docs/`.
const PAGES: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONFIG.md",
    "clients/conformance/README.md",
    "clients/javascript/README.md",
    "clients/python/README.md",
    "deploy/kubernetes/README.md",
];

/// What files have that are neither pages nor Rust: clients, consoles, examples, manifests, units, scripts.
const OTHER_FILES: [&str; 20] = [
    ".alloy", ".cfg", ".conf", ".css", ".env", ".html", ".js", ".json", ".lua", ".mjs", ".py", ".service", ".sh",
    ".svg", ".toml", ".ts", ".txt", ".xml", ".yaml", ".yml",
];

/// Where they are.
const OTHER_FOLDERS: [&str; 9] = [
    "shared",
    "terminator",
    "worker",
    "cli",
    "clients",
    "deploy",
    "docs",
    "tests",
    ".ci",
];

/// What is made by tools, or installed by them.
const MADE: [&str; 11] = [
    "target",
    "node_modules",
    ".venv",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "package-lock.json",
    "corpus",
];

/// What files and folders are not called: besides the lower-case ones of [`NAMES`], parts of programs that have got better names.
const FILE_NAMES: [&str; 11] = [
    "doorkeeper",
    "intake",
    "life",
    "lookout",
    "mover",
    "outward",
    "patience",
    "pile",
    "rooms",
    "teller",
    "weather",
];

/// The programs' code.
const SOURCES: [&str; 4] = ["shared/src", "terminator/src", "worker/src", "cli/src"];

/// This list is no use of its words.
const HERE: &str = "tests/claims/operating/vocabulary.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files below a path with one of these extensions, by their paths from the root, with their texts.
fn files(below: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let (mut waiting, mut found) = (vec![root().join(below)], Vec::new());
    while let Some(path) = waiting.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !MADE.contains(&name.as_str()) {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if extensions.iter().any(|extension| name.ends_with(extension)) {
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((shown, fs::read_to_string(&path).unwrap()));
        }
    }
    found.retain(|(path, _)| path != HERE);
    assert!(!found.is_empty(), "{below} has no files");
    found
}

/// The files that are neither pages nor Rust, with their texts: those with an extension that says so, and scripts.
fn other_files() -> Vec<(String, String)> {
    let mut paths: Vec<_> = [
        "docker-compose.yml",
        "Dockerfile",
        "Cargo.toml",
        "clippy.toml",
        "rustfmt.toml",
    ]
    .map(|name| root().join(name))
    .into();
    for folder in OTHER_FOLDERS.iter().filter(|folder| root().join(folder).exists()) {
        paths.extend(all_below(folder));
    }
    let texts = paths.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let text = String::from_utf8(fs::read(&path).unwrap()).ok()?;
        let is_one = OTHER_FILES.iter().any(|extension| name.ends_with(extension)) || text.starts_with("#!");
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        (is_one || name == "Dockerfile").then_some((shown, text))
    });
    texts.collect()
}

/// All files below a folder, but what tools have made.
fn all_below(folder: &str) -> Vec<PathBuf> {
    let (mut waiting, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(path) = waiting.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if MADE.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found
}

/// Whether a text has a word that is no part of another.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

/// The lines that have one of the words, as `has` sees it, where it is not allowed.
fn found(files: &[(String, String)], words: &[Word], has: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    for (path, text) in files {
        let words = words
            .iter()
            .filter(|(_, allowed)| !allowed.iter().any(|start| path.starts_with(start)));
        for (word, _) in words.filter(|(word, _)| text.contains(word)) {
            let lines = text.lines().enumerate().filter(|(_, line)| has(line, word));
            all.extend(lines.map(|(number, _)| format!("{path}:{}: {word}", number + 1)));
        }
    }
    all
}

/// The texts in code: what stands in quotes, has a space, and is in no comment and no test.
fn texts(code: &str) -> String {
    let code = code.find("#[cfg(test)]\nmod tests {").map_or(code, |at| &code[..at]);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n").replace("\\\"", "'");
    let quoted = code.split('"').skip(1).step_by(2);
    quoted.filter(|text| text.contains(' ')).collect::<Vec<_>>().join("\n")
}

/// The comments in code, each on its line, without what is code there.
fn comments(code: &str) -> String {
    let of_line = |line: &str| {
        let line = line.trim_start();
        let behind = line.split_once(" // ").map_or("", |(_, comment)| comment);
        let comment = if line.starts_with("//") { line } else { behind };
        comment.split('`').step_by(2).collect::<Vec<_>>().join("`")
    };
    code.lines().map(of_line).collect::<Vec<_>>().join("\n")
}

#[test]
fn names_in_code_are_the_field_s_own() {
    let mut code: Vec<_> = SOURCES
        .iter()
        .flat_map(|folder| files(folder, &[".rs", ".lua"]))
        .collect();
    code.extend(files("tests", &[".rs"]));
    let words: Vec<_> = NAMES.into_iter().chain(NAMES_APART).collect();
    let found = found(&code, &words, has_word);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn settings_and_metrics_go_by_the_names_that_they_have_now() {
    let mut all: Vec<_> = SOURCES.iter().flat_map(|folder| files(folder, &[""])).collect();
    for folder in ["tests/claims", "tests/src", "tests/browser", "docs", "deploy"] {
        all.extend(files(
            folder,
            &[".rs", ".md", ".yaml", ".yml", ".json", ".toml", ".env", ".ts", ".py"],
        ));
    }
    for page in PAGES {
        all.extend(files(page, &[".md"]));
    }
    let found = found(&all, &ON_THE_SURFACE, |line, word| line.contains(word));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn pages_and_texts_are_plain_english() {
    let mut said = files("docs", &[".md"]);
    for page in PAGES {
        said.extend(files(page, &[".md"]));
    }
    for folder in SOURCES {
        let code = files(folder, &[".rs"]).into_iter();
        let code = code.filter(|(path, _)| !path.contains("/tests"));
        said.extend(code.map(|(path, text)| (path, texts(&text))));
    }
    for (_, text) in &mut said {
        *text = text.to_lowercase();
    }
    let found = found(&said, &[&NEVER_SAID[..], &NOT_SAID].concat(), has_word);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn comments_are_plain_english() {
    let below = SOURCES.iter().chain(&["tests"]);
    let code = below.flat_map(|folder| files(folder, &[".rs"]));
    let said: Vec<_> = code
        .map(|(path, text)| (path, comments(&text).to_lowercase()))
        .collect();
    let found = found(&said, &[&NEVER_SAID[..], &NOT_IN_COMMENTS].concat(), has_word);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A reader has asked that already.
const QUESTIONS: [&str; 14] = [
    "Which.",
    "What.",
    "Who.",
    "Whose.",
    "Whom.",
    "Why.",
    "Where.",
    "Where to.",
    "When.",
    "How many.",
    "How much.",
    "That.",
    "So many.",
    "Several.",
];

/// The doc comments of a file that are a question and no answer, with their lines.
fn questions(text: &str) -> Vec<(usize, &str)> {
    let docs = text.lines().map(|line| line.trim().strip_prefix("///").map(str::trim));
    let mut before = None;
    let mut found = Vec::new();
    for (number, doc) in (1..).zip(docs) {
        if let (None, Some(doc)) = (before, doc)
            && QUESTIONS.contains(&doc)
        {
            found.push((number, doc));
        }
        before = doc;
    }
    found
}

#[test]
fn doc_comments_say_what_something_is() {
    let code = SOURCES.iter().flat_map(|folder| files(folder, &[".rs"]));
    let code = code.filter(|(path, _)| !path.contains("tests"));
    let found: Vec<_> = code
        .flat_map(|(path, text)| {
            let found = questions(&text).into_iter();
            found
                .map(|(line, doc)| format!("{path}:{line}: {doc}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(
        questions("/// Which.\na: u8,\n/// How much is\n/// what.\nb: u8"),
        [(1, "Which.")]
    );
}

/// There, what is a comment and what is said is not told apart.
#[test]
fn what_is_neither_a_page_nor_rust_is_plain_english_too() {
    let said: Vec<_> = other_files()
        .into_iter()
        .map(|(path, text)| (path, text.to_lowercase()))
        .collect();
    assert!(said.len() > 100, "there are such files");
    let found = found(&said, &[&NEVER_SAID[..], &NOT_IN_COMMENTS].concat(), has_word);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// In the clients and the consoles, too.
#[test]
fn names_in_other_languages_are_the_field_s_own() {
    let code: Vec<_> = other_files()
        .into_iter()
        .filter(|(path, _)| {
            [".css", ".html", ".js", ".mjs", ".py", ".ts"]
                .iter()
                .any(|end| path.ends_with(end))
        })
        .collect();
    let found = found(&code, &NAMES, has_word);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_and_folders_are_not_called_what_others_have_replaced() {
    let words = NAMES
        .iter()
        .map(|(word, _)| *word)
        .filter(|word| word.starts_with(char::is_lowercase));
    let words: Vec<_> = words.chain(FILE_NAMES).collect();
    let mut found = Vec::new();
    for path in OTHER_FOLDERS
        .iter()
        .filter(|folder| root().join(folder).exists())
        .flat_map(|folder| all_below(folder))
    {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        if shown.split(['/', '.', '-', '_']).any(|part| words.contains(&part)) {
            found.push(shown);
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_word_is_found_where_it_is_one_and_not_allowed() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file(
            "a.rs",
            "struct House;\nfn house() {}\n// HouseKeeper\nlet x = House::new();",
        ),
        file("b/c.rs", "House"),
    ];
    assert_eq!(
        found(&files, &[("House", &["b/"])], has_word),
        ["a.rs:1: House", "a.rs:4: House"]
    );
    let code =
        "// \"in a comment\"\nwarn!(\"a text\");\nlet word = \"word\";\n#[cfg(test)]\nmod tests {\n\"of a test\"}";
    assert_eq!(texts(code), "a text");
    let code = "/// Of `Whoever`.\nlet x = \"nobody\"; // Of nobody.\nlet url = \"http://nobody\";";
    assert_eq!(comments(code), "/// Of `.\nOf nobody.\n");
}
