//! Every command that a page prints is one.
//!
//! Those of our own programs run with their arguments as they are printed. So do those of RabbitMQ's tools that only read, and all of
//! `redis-cli`, on a real broker and store; of RabbitMQ's other commands it is asked whether there is such a one. Other programs are looked
//! up in a list of what a reader has, and not run; the files of ours that they name are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tests::nodes::program::programs;
use tests::nodes::watchdog::Folder;
use tests::{Stack, Store, token_for};

/// The pages outside of `docs`, by their paths from the root.
const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "clients/conformance/README.md",
    "clients/javascript/README.md",
    "clients/python/README.md",
    "deploy/kubernetes/README.md",
];

/// All pages.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).expect("the folder of pages");
    let docs = docs.map(|entry| entry.expect("a page").file_name().to_string_lossy().into_owned());
    let docs = docs
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"));
    let mut all: Vec<_> = PAGES.map(str::to_owned).into_iter().chain(docs).collect();
    all.sort();
    all
}

/// What someone has who runs this, besides our own programs.
const TOOLS: [&str; 25] = [
    ".venv/bin/pip",
    ".venv/bin/python",
    "amqp-publish",
    "cargo",
    "cd",
    "curl",
    "df",
    "docker",
    "echo",
    "export",
    "grep",
    "head",
    "iostat",
    "journalctl",
    "kind",
    "kubectl",
    "npm",
    "openssl",
    "pip",
    "printf",
    "promtool",
    "python3",
    "sort",
    "systemctl",
    "timedatectl",
];

/// What stands for something of the reader's own.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("SUBJECT", "alice"),
    ("NAME", "alice"),
    ("ID", "0f3c9a2b7d51e604.1f"),
    ("CONNECTION", "0f3c9a2b7d51e604.1f"),
    ("ISSUER", "https://login.example.com"),
    ("LETTER", "1"),
    ("SID", "s-1"),
    ("URL", "http://127.0.0.1:1"),
    ("ws://127.0.0.1:8080", "ws://127.0.0.1:1"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The commands of a line of a shell, each in its words: what is between pipes and `&&`, without redirections, comments and
/// variables that are set before a command. A `$(…)` stays one word.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut depth) = (None, 0);
    let mut end = |words: &mut Vec<String>| {
        let mut words = std::mem::take(words);
        if let Some(redirection) = words.iter().position(|word| [">", "<"].contains(&word.as_str())) {
            words.truncate(redirection);
        }
        let is_variable = |word: &String| {
            let name = word.split('=').next().unwrap_or_default();
            word.contains('=') && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        let start = words.iter().position(|word| !is_variable(word)).unwrap_or(words.len());
        words.drain(..start);
        if !words.is_empty() {
            all.push(words);
        }
    };
    let mut before = ' ';
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c && depth == 0 => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | '&' | ';') if depth == 0 => {
                words.extend(word.take());
                if c != ' ' {
                    end(&mut words);
                }
            }
            _ => {
                if c == '(' && before == '$' {
                    depth += 1;
                } else if c == ')' && depth > 0 {
                    depth -= 1;
                }
                word.get_or_insert_default().push(c);
            }
        }
        before = c;
    }
    words.extend(word);
    end(&mut words);
    all
}

/// The programs whose commands are also read where they stand in a sentence.
const READ_IN_SENTENCES: [&str; 5] = [
    "countersign ",
    "rabbitmqctl ",
    "rabbitmq-diagnostics ",
    "rabbitmq-upgrade ",
    "redis-cli ",
];

/// Every command of a page: of its blocks of `sh`, and those of our own tool, the broker's and the store's that stand in a sentence. A
/// sentence may leave something out, `countersign …`: that is no command.
pub(super) fn printed(page: &str) -> Vec<(String, Vec<String>)> {
    let text = read(page).replace("\\\n", " ");
    let mut lines = Vec::new();
    let mut rest = String::new();
    for (place, part) in text.split("```").enumerate() {
        match part
            .trim_start()
            .strip_prefix("sh\n")
            .or_else(|| part.strip_prefix("sh\n"))
        {
            Some(block) if place % 2 == 1 => {
                for line in block.lines().map(str::trim) {
                    assert!(
                        !line.contains('…'),
                        "{page}: what leaves something out cannot be typed: {line}"
                    );
                    lines.push(line.to_owned());
                }
            }
            _ if place % 2 == 1 => {}
            _ => rest.push_str(part),
        }
    }
    let said = rest.replace('\n', " ");
    let said = said.split('`').skip(1).step_by(2);
    lines.extend(
        said.filter(|code| READ_IN_SENTENCES.iter().any(|program| code.starts_with(program)) && !code.contains('…'))
            .map(str::to_owned),
    );
    let each = |line: String| {
        commands(&line)
            .into_iter()
            .map(move |words| (line.clone(), words))
            .collect::<Vec<_>>()
    };
    lines.into_iter().flat_map(each).collect()
}

struct Reader {
    stack: Stack,
    /// For what is changed there.
    store: Store,
    folder: Folder,
    token: String,
}

impl Reader {
    /// With what someone has set who follows the README.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command
            .current_dir(self.folder.path())
            .env("COUNTERSIGN_AMQP_URL", self.stack.broker().url())
            .env("COUNTERSIGN_STORE_URL", self.stack.store().url())
            .env("COUNTERSIGN_NAMESPACE", self.stack.namespace())
            .env(
                "COUNTERSIGN_JWT_KEYS",
                format!("hmac:{}", root().join("deploy/development/hmac.key").display()),
            )
            .env("COUNTERSIGN_JWT_ISSUER", "countersign-dev")
            .env("COUNTERSIGN_JWT_AUDIENCE", "countersign")
            .stdin(Stdio::null());
        command
    }

    fn argument(&self, word: &str) -> String {
        if word.starts_with("$(countersign token mint") || word == "$TOKEN" {
            return self.token.clone();
        }
        if word.ends_with(".toml") || word == "FOLDER" || word == "FILE" {
            return self.folder.join("made").display().to_string();
        }
        let known = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == word);
        known.map_or(word, |(_, meant)| meant).to_owned()
    }

    /// Why this is no command of ours; none if it is one. That there is no one to be asked is no fault of it.
    fn fault(&self, program: &str, arguments: &[String], is_named: bool) -> Option<String> {
        let mut command = self.command(program);
        command.args(arguments.iter().map(|word| self.argument(word)));
        if arguments.first().is_some_and(|word| word == "token") {
            // It reads its token there, which belongs in no list of processes.
            command.stdin(File::open(self.folder.join("token")).expect("a file"));
        }
        if program != "countersign" {
            // What it would be told, without being started.
            command.arg("--print-config");
        } else if is_named || arguments.iter().any(|word| word == "bench") || arguments.is_empty() {
            // It is only named, or would take long; it is read all the same.
            command.arg("--help");
        }
        let ran = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let is_wrong = match program {
            "countersign" => said.contains("Usage:") || said.starts_with("error: "),
            _ => !ran.status.success(),
        };
        is_wrong.then_some(said)
    }
}

impl Reader {
    /// Why this is no command of RabbitMQ's tools; none if it is one.
    async fn fault_at_the_broker(&self, tool: &str, arguments: &[String]) -> Option<String> {
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        let command = words
            .iter()
            .find(|word| !word.starts_with('-'))
            .copied()
            .unwrap_or_default();
        let only_reads = tool == "rabbitmq-diagnostics" || command.starts_with("list_") || command.ends_with("status");
        let ran = match only_reads {
            true => self.stack.broker().tool(tool, &words).await,
            false => self.stack.broker().tool(tool, &["help", command]).await,
        };
        let said = [ran.stdout, ran.stderr].concat();
        (!ran.status.success()).then(|| String::from_utf8_lossy(&said).into_owned())
    }

    /// Why this is no command of the store's; none if it is one. Of options that run for long, it is only asked whether they are known.
    fn fault_at_the_store(&self, arguments: &[String]) -> Option<String> {
        let mut command = Command::new("redis-cli");
        let option = arguments.first().filter(|word| word.starts_with("--"));
        match option {
            Some(_) => command.arg("--help"),
            // What the store refuses is a failure (`-e`).
            None => command.args(["-e", "-u", &self.store.url()]).args(arguments),
        };
        let ran = command.stdin(Stdio::null()).output().expect("redis-cli starts");
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let is_known = option.is_none_or(|option| said.split_whitespace().any(|word| word == option));
        (!ran.status.success() || !is_known).then_some(said)
    }
}

fn services() -> Vec<String> {
    let compose: Value = serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML");
    compose["services"]
        .as_object()
        .expect("services")
        .keys()
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_a_page_prints_is_one() {
    let reader = Reader {
        stack: Stack::start().await,
        store: Store::start().await,
        folder: Folder::new("printed"),
        token: token_for("alice").mint(),
    };
    // Whom a page gives another password.
    reader.store.command(&["ACL", "SETUSER", "worker", "on", ">OLD"]).await;
    std::fs::write(reader.folder.join("made"), "").expect("a file");
    std::fs::write(reader.folder.join("token"), &reader.token).expect("a file");
    let (mut ours, mut wrong, mut run) = (0, Vec::new(), BTreeMap::new());
    for page in pages() {
        let text = read(&page);
        for (line, words) in printed(&page) {
            let (program, arguments) = words.split_first().expect("a word");
            let fault = match program.as_str() {
                "countersign" | "terminator" | "worker" => {
                    ours += 1;
                    // A sentence names a subcommand; what it prints with arguments is meant to be typed.
                    let are_names = arguments
                        .iter()
                        .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
                    reader.fault(program, arguments, are_names && text.contains(&format!("`{line}`")))
                }
                // Each takes a second, and pages print some of them often.
                "rabbitmqctl" | "rabbitmq-diagnostics" | "rabbitmq-upgrade" => {
                    if !run.contains_key(&words) {
                        let fault = reader.fault_at_the_broker(program, arguments).await;
                        run.insert(words.clone(), fault);
                    }
                    run[&words].clone()
                }
                "redis-cli" => reader.fault_at_the_store(arguments),
                script if script.ends_with("/run") => {
                    let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
                    let exists = [root().join(script), root().join(folder).join(script)]
                        .iter()
                        .any(|path| path.exists());
                    (!exists).then(|| format!("there is no {script}"))
                }
                "docker" if arguments.get(1).is_some_and(|word| word == "exec") => {
                    let service = arguments.get(2).filter(|service| services().contains(service));
                    service.is_none().then(|| "there is no such service".to_owned())
                }
                tool => (!TOOLS.contains(&tool)).then(|| format!("what is {tool}?")),
            };
            wrong.extend(fault.map(|fault| format!("{page}: {line}\n    {fault}")));
            for path in arguments
                .iter()
                .filter(|word| word.starts_with("deploy/") || word.starts_with("docs/"))
            {
                if !root().join(path).exists() {
                    wrong.push(format!("{page}: {line}\n    there is no {path}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        ours > 60,
        "only {ours} commands of ours were found: the claim has gone blind"
    );
    assert!(run.len() > 10, "only {run:?} were found: the claim has gone blind");
}

#[test]
fn every_section_of_the_runbook_says_what_it_means_what_to_type_what_to_do_and_how_to_see_that_it_helped() {
    let runbook = read("docs/runbook.md");
    let sections = runbook
        .split("\n## ")
        .skip(1)
        .filter(|section| !section.starts_with("How commands"));
    let mut seen = 0;
    for section in sections {
        let name = section.lines().next().unwrap_or_default();
        for part in ["**Means**: ", "**Look at**: ", "```sh\n", "**Do**: ", "**Check**: "] {
            assert_eq!(section.matches(part).count(), 1, "{name}: {part}");
        }
        seen += 1;
    }
    assert!(seen > 35, "only {seen} sections were found: the claim has gone blind");
}

/// What only filters what another program says.
const FILTERS: [&str; 3] = ["grep", "head", "sort"];

#[test]
fn the_runbook_says_of_each_program_how_it_is_typed_in_compose_and_in_kubernetes() {
    let runbook = read("docs/runbook.md");
    let table = runbook.split("## How commands are typed").nth(1).expect("the section");
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split(" | ").collect())
        .collect();
    let mut seen = BTreeSet::new();
    for (line, words) in printed("docs/runbook.md") {
        let program = words[0].clone();
        let begins = format!("`{program}");
        let has_a_row = rows.iter().any(|row| {
            row.len() == 3 && (row[0].contains(&format!("{begins} ")) || row[0].contains(&format!("{begins}`")))
        });
        assert!(
            has_a_row || FILTERS.contains(&program.as_str()),
            "no row for {program}: {line}"
        );
        seen.insert(program);
    }
    assert!(seen.len() > 12, "only {seen:?} were found: the claim has gone blind");
}

#[test]
fn a_line_of_a_shell_is_read_as_a_shell_reads_it() {
    let read = |line: &str| commands(line).iter().map(|words| words.join("·")).collect::<Vec<_>>();
    assert_eq!(read("A=b worker --x 'a b' # while that runs"), ["worker·--x·a b"]);
    assert_eq!(
        read("countersign send --token \"$(countersign token mint alice)\" && cd x | head"),
        [
            "countersign·send·--token·$(countersign token mint alice)",
            "cd·x",
            "head"
        ]
    );
    assert_eq!(read("countersign man x > /dev/null"), ["countersign·man·x"]);
}
