//! A worker does not start on keys that are weak, ambiguous or not there, and says which; and it keeps up with keys that
//! change, from a file or from a key server.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use tests::nodes::program::Kind;
use tests::tokens::key::jwks;
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{Algorithm, Client, Key, KeyServer, Program, Span, Stack, eventually, test_keys, token_for};

/// 1,024 bits: what no one may sign with any more (RFC 7518, section 3.3).
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDcMPcsalwQyXma/pwa8hqmh6oE
FSRRUhWvo01C5YEMTnMT0J8BMCj2/X5S+HPH8djGtHElk4rXExDbbyRtlML2/1u8
F+EmCZk9GfoY9K+oxU0y3VZi2feHTwWljD9dqTRKDsMxUlUm4WBwo/uInKfDusMR
lU8yoHbHDbGQATRFYwIDAQAB
-----END PUBLIC KEY-----
";

/// The curve of Bitcoin, with which ES256 must not be confused.
const SECP256K1: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEtV5J6FpUCZ5mWQcm75jGJtKHTu0tFxel
Gg5Q9oKTvgDAyQVV/tklRL/k7DrzVhYZ9jpglG0oYcCuc9GepH1EAw==
-----END PUBLIC KEY-----
";

/// Keys with which no worker may start: the name of the file, its content, and words that the refusal must have.
fn unfit() -> Vec<(&'static str, String, &'static [&'static str])> {
    let (rsa, ec, ed) = (&test_keys().rs256, &test_keys().es256, &test_keys().eddsa);
    let with = |key: &Key, name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk["kid"] = "the-key".into();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    let short = Key::hmac("s".repeat(31));
    // For the same algorithm: nothing tells them apart.
    let twin = {
        let (mut one, mut other) = (Key::generate(Algorithm::Es256).jwk(), ec.jwk());
        one["kid"] = "the-key".into();
        other["kid"] = "the-key".into();
        json!({"keys": [one, other]}).to_string()
    };
    let secret = String::from_utf8(test_keys().hs256.secret().to_vec()).expect("base64");
    let pem = rsa.public_pem();
    let encoded: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let weak_modulus = with(rsa, "n", "w".repeat(170).into());
    vec![
        ("short.secret", "s".repeat(31), &["31 bytes", "32"]),
        ("short-with-newline.secret", "s".repeat(31) + "\n", &["31 bytes"]),
        ("empty.secret", String::new(), &["0 bytes"]),
        ("one-letter.secret", "k".repeat(64), &["variety"]),
        ("page.html", "<html><h1>502 Bad Gateway</h1>".repeat(3), &["HTML"]),
        ("unnamed.key", secret, &["text", "hmac:"]),
        // With such a line, or named so at once, anyone who has the public key could sign.
        ("public.b64", encoded.clone(), &["base64 -d"]),
        ("public-b64.secret", encoded, &["base64", "others may know"]),
        (
            "page.secret",
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure".into(),
            &["text for people"],
        ),
        (
            "id_ed25519.pub",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3fQq7y2sYwTnXkL0Vb9uGmZc1HdReP5oQa8iKjW4tM me@host".into(),
            &["SSH", "ssh-keygen -e -m PKCS8"],
        ),
        (
            "bag.pem",
            format!("Bag Attributes\n    friendlyName: x\n{}", rsa.public_pem()),
            &["PEM", "remove what is before"],
        ),
        ("short-oct.json", jwks([&short]), &["31 bytes"]),
        ("rsa-1024.pem", RSA_1024.into(), &["1024 bits", "2048"]),
        ("rsa-1024.json", weak_modulus, &["the-key", "bits"]),
        ("secp256k1.pem", SECP256K1.into(), &["P-256"]),
        (
            "wrong-crv.json",
            with(ec, "crv", "secp256k1".into()),
            &["the-key", "crv"],
        ),
        ("wrong-crv-2.json", with(ec, "crv", "P-384".into()), &["the-key"]),
        ("x25519.json", with(ed, "crv", "X25519".into()), &["the-key", "crv"]),
        (
            "off-curve.json",
            with(ec, "x", "A".repeat(43).into()),
            &["the-key", "P-256"],
        ),
        ("encryption.json", with(rsa, "use", "enc".into()), &["the-key", "use"]),
        (
            "operations.json",
            with(rsa, "key_ops", json!(["encrypt"])),
            &["the-key", "key_ops"],
        ),
        ("unfit-alg.json", with(rsa, "alg", "HS256".into()), &["the-key", "alg"]),
        ("private-part.json", with(rsa, "d", "AQAB".into()), &["the-key", "`d`"]),
        ("private.pem", rsa.private_pem(), &["private"]),
        ("empty-kid.json", with(rsa, "kid", "".into()), &["kid"]),
        ("twins.json", twin, &["the-key", "kid", "another"]),
        ("mixed.json", jwks([rsa, &test_keys().hs256]), &["symmetric"]),
        ("public-as-secret", format!("secret: {}", rsa.public_pem()), &["PEM"]),
        ("no-keys.json", r#"{"keys": []}"#.into(), &["no key"]),
        ("not.json", r#"{"keys": [}"#.into(), &["JWKS"]),
        ("half.pem", rsa.public_pem()[..200].into(), &["PEM"]),
    ]
}

/// Starts a worker that must not start, and returns the lines in which it says why.
async fn refusal(keys: &str) -> Vec<String> {
    let settings = [
        ("jwt-keys", keys),
        ("jwt-issuer", ISSUER),
        ("jwt-audience", AUDIENCE),
        ("store-url", "memory:"),
        ("admin-listen", "off"),
        // No one is there: a worker that got so far would wait for it.
        ("amqp-url", "amqp://127.0.0.1:1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut worker = Program::spawn(Kind::Worker, &settings);
    assert_eq!(worker.wait_exit(20.s()).await.code(), Some(2), "{keys}");
    worker.errors()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_on_a_key_that_is_unfit_and_names_it() {
    for (name, content, words) in unfit() {
        let file = test_keys().folder().join(format!("unfit-{name}"));
        fs::write(&file, &content).unwrap();
        let path = file.to_str().unwrap();
        let named_a_secret = name.ends_with(".secret") || name == "public-as-secret";
        let file = &if named_a_secret {
            format!("hmac:{path}")
        } else {
            path.to_owned()
        };
        let lines = refusal(file).await;
        let [line] = &lines[..] else {
            panic!("{name}: {lines:?}")
        };
        assert!(
            line.starts_with("jwt-keys") && line.contains(file.as_str()),
            "{name}: {line}"
        );
        for word in words {
            assert!(line.contains(word), "{name}: {line} does not say {word}");
        }
        let suggests = line.replace(file.as_str(), "").contains("hmac:");
        assert_eq!(suggests, words.contains(&"hmac:"), "{name}: {line}");
        let material = content
            .lines()
            .filter(|text| text.len() > 40 && !text.contains("-----"));
        for text in material {
            assert!(!line.contains(text), "{name}: key material in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_start_on_keys_that_are_not_there_or_that_anybody_could_change() {
    let keys = test_keys();
    let secret = keys.secret_entry();
    let pem = keys.pem_file(&keys.rs256).display().to_string();
    let twin = keys.folder().join("twin.pem");
    fs::write(&twin, Key::generate(Algorithm::Rs256).public_pem()).unwrap();
    let missing = "/no/such/key.pem";
    let folder = keys.folder().display().to_string();
    let cases = [
        (missing.to_owned(), vec![missing]),
        (folder.clone(), vec![&*folder]),
        (
            "http://keys.example/jwks.json".into(),
            vec!["http://keys.example/jwks.json"],
        ),
        (
            "https://somebody:hunter2@keys.example/jwks.json".into(),
            vec!["https://somebody:***@keys.example/jwks.json"],
        ),
        (format!("{secret},{pem}"), vec![&*secret]),
        (format!("kid=a;{pem},kid=a;{}", twin.display()), vec!["kid=a;"]),
        (
            format!("issuer=https://nobody.example;{pem}"),
            vec!["https://nobody.example"],
        ),
        // All that is wrong, at once.
        (
            format!("{missing},{pem},/none/other.pem"),
            vec![missing, "/none/other.pem"],
        ),
    ];
    for (entry, named) in cases {
        let lines = refusal(&entry).await;
        assert_eq!(lines.len(), named.len(), "{entry}: {lines:?}");
        for (line, name) in lines.iter().zip(named) {
            assert!(line.starts_with("jwt-keys") && line.contains(name), "{entry}: {line}");
        }
    }
}

/// What a client is told who brings a token signed with `key`: a code, or none if all is well.
async fn code(client: &mut Client, key: &Key) -> Value {
    let token = token_for("alice").signed_with(key).mint();
    code_of(client, &token).await
}

async fn code_of(client: &mut Client, token: &str) -> Value {
    let answer = client.request("echo", Some(token), Value::Null).await;
    answer["error"]["code"].clone()
}

async fn eventually_code(client: &mut Client, key: &Key, expected: impl Into<Value>) {
    let expected = expected.into();
    let what = format!("a token is answered {expected}");
    eventually(60.s(), &what, async || {
        let seen = code(client, key).await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_up_with_its_key_server_and_outlives_it() {
    let [first, second, third] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256].map(Key::generate);
    let mut server = KeyServer::away();
    let builder = Stack::builder().workers(0).setting("jwt-keys", &server.url());
    let mut stack = builder
        .setting("jwt-algorithms", "")
        .setting("jwks-refresh-interval", "1s")
        .start()
        .await;
    stack.spawn_workers(1);

    // Away from the start: a worker runs, says what it lacks, and tells clients to come again.
    let lack = eventually(30.s(), "the worker says what it lacks", async || {
        match stack.workers()[0].is_ready().await {
            Err(lack) if lack.contains(&server.url()) => Ok(lack),
            other => Err(other),
        }
    })
    .await;
    assert!(lack.starts_with("503"), "{lack}");
    let mut client = stack.client().await;
    let token = token_for("alice").signed_with(&first).mint();
    let answer = client.request("echo", Some(&token), Value::Null).await;
    assert_eq!(answer["error"]["code"], "auth_unavailable");
    assert_eq!(answer["error"]["temporary"], true);
    assert!(answer["error"]["retry_after_ms"].is_u64(), "{answer}");

    // It comes: the very same token is good.
    server.serve([&first]).await;
    stack.worker(0).ready().await;
    assert_eq!(code_of(&mut client, &token).await, Value::Null);

    // Keys overlap while they are rotated, and one that is removed is gone, though it was remembered.
    server.serve([&first, &second]).await;
    eventually_code(&mut client, &second, Value::Null).await;
    assert_eq!(code_of(&mut client, &token).await, Value::Null);
    server.serve([&second]).await;
    eventually_code(&mut client, &first, "token_invalid").await;
    assert_eq!(code_of(&mut client, &token).await, "token_invalid");

    // A set that is not fit for use is not taken, and someone is told so once.
    let asked = server.requests();
    let twin = json!({"keys": [second.jwk(), second.jwk()]});
    server.serve_text(&twin.to_string()).await;
    eventually(20.s(), "it is asked thrice more", async || {
        server.requests() > asked + 3
    })
    .await;
    assert_eq!(code(&mut client, &second).await, Value::Null);
    let refusals = |stack: &Stack| {
        let log = stack.workers()[0].log();
        log.iter()
            .filter(|line| line["fault"].is_string())
            .cloned()
            .collect::<Vec<_>>()
    };
    let told = refusals(&stack);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains(&server.url()), "{told:?}");

    // Away again: the one who was in stays in, a key that is unknown may exist, and no one is logged out.
    server.leave().await;
    eventually_code(&mut client, &third, "auth_unavailable").await;
    eventually(20.s(), "the worker has noticed", async || {
        let readings = stack.workers()[0].metrics().await;
        readings[r#"countersign_worker_key_reloads_total{result="failed"}"#] > 2.0
    })
    .await;
    assert_eq!(code(&mut client, &second).await, Value::Null);
    assert_eq!(code(&mut client, &third).await, "auth_unavailable");
    assert_eq!(stack.workers()[0].is_ready().await, Ok(()));
    server.serve([&second, &third]).await;
    eventually_code(&mut client, &third, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_has_cause_one_request_and_make_no_new_key_unknown() {
    let [old, new, nobodys] = [(); 3].map(|()| Key::generate(Algorithm::Es256));
    let mut server = KeyServer::away();
    server.serve([&old]).await;
    let builder = Stack::builder().setting("jwt-keys", &server.url());
    let builder = builder.setting("unauthenticated-messages-per-second", "off");
    let mut stack = builder.setting("jwt-algorithms", "").start().await;
    assert_eq!(server.requests(), 1);
    let mut client = stack.client().await;
    assert_eq!(code(&mut client, &nobodys).await, "auth_unavailable");
    eventually_code(&mut client, &nobodys, "token_invalid").await;
    // The server is left alone for a while now; whether there are such keys will be seen then.
    for _ in 0..5 {
        let strange = Key::generate(Algorithm::Es256);
        // However often it is shown: no fetch has begun since it was first seen.
        for _ in 0..2 {
            assert_eq!(code(&mut client, &strange).await, "auth_unavailable");
        }
    }
    assert_eq!(code(&mut client, &old).await, Value::Null);
    assert_eq!(
        (server.requests(), code(&mut client, &nobodys).await),
        (2, "token_invalid".into())
    );
    // An issuer that exchanges its key at the moment loses no one to that.
    server.serve([&old, &new]).await;
    let token = token_for("alice").signed_with(&new).mint();
    let answer = client.request("echo", Some(&token), Value::Null).await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!("auth_unavailable"), &json!(true))
    );
    let wait = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=30_000).contains(&wait), "{answer}");
    stack.worker(0).reload();
    eventually_code(&mut client, &new, Value::Null).await;
    assert_eq!(code(&mut client, &old).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_replaced_is_read_again() {
    let [old, new] = [Algorithm::Es256, Algorithm::EdDsa].map(Key::generate);
    let file = test_keys().folder().join("replaced.json");
    let replace = |text: &str| {
        let beside = file.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &file).unwrap();
    };
    replace(&jwks([&old]));
    let builder = Stack::builder().setting("jwt-keys", file.to_str().unwrap());
    let stack = builder.setting("jwt-algorithms", "").start().await;
    let mut client = stack.client().await;
    assert_eq!(code(&mut client, &old).await, Value::Null);
    assert_eq!(code(&mut client, &new).await, "token_invalid");
    replace(&jwks([&old, &new]));
    eventually_code(&mut client, &new, Value::Null).await;
    assert_eq!(code(&mut client, &old).await, Value::Null);
    replace(&jwks([&old, &test_keys().hs256]));
    eventually(20.s(), "the worker says that the file cannot be used", async || {
        stack.workers()[0].stderr().contains("cannot be used")
    })
    .await;
    assert_eq!(code(&mut client, &new).await, Value::Null);
    replace(&jwks([&new]));
    eventually_code(&mut client, &old, "token_invalid").await;
    assert_eq!(code(&mut client, &new).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_torn_or_never_rests_is_told_once_a_minute_and_counted() {
    let key = Key::generate(Algorithm::Es256);
    let file = test_keys().folder().join("torn.json");
    let good = jwks([&key]);
    fs::write(&file, &good).unwrap();
    let builder = Stack::builder().setting("jwt-keys", file.to_str().unwrap());
    let stack = builder.setting("jwt-algorithms", "").start().await;
    let mut client = stack.client().await;
    let worker = &stack.workers()[0];
    let refused = async |times: f64| {
        eventually(60.s(), "the worker refuses what it finds", async || {
            let counted = worker.metrics().await[r#"countersign_worker_key_reloads_total{result="refused"}"#];
            if counted >= times { Ok(()) } else { Err(counted) }
        })
        .await;
    };
    let since = Instant::now();
    // Another at each look.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 0_u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let beside = file.with_extension("beside");
                fs::write(&beside, format!("{good}{}", " ".repeat((version % 1_000) as usize))).unwrap();
                fs::rename(&beside, &file).unwrap();
                std::thread::yield_now();
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(refused(1.0));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
    // Torn at other places, each for long enough to be seen.
    for (times, length) in [(2.0, 40), (3.0, 60), (4.0, 80), (5.0, 100)] {
        fs::write(&file, &good[..length]).unwrap();
        refused(times).await;
    }
    let log = worker.log();
    let told: Vec<_> = log.iter().filter(|line| line["fault"].is_string()).collect();
    let most = 1 + since.elapsed().as_secs() / 60;
    assert!((1..=most).contains(&(told.len() as u64)), "{told:?}");
    assert_eq!(told[0]["level"], "WARN", "{told:?}");
    assert!(told[0].to_string().contains("at each look"), "{told:?}");
    assert_eq!(code(&mut client, &key).await, Value::Null);
    assert_eq!(worker.is_ready().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_key_spoils_no_other_and_is_told_once() {
    let [good, other] = [Algorithm::Es256, Algorithm::EdDsa].map(Key::generate);
    let with = |key: &Key, kid: &str, name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk["kid"] = kid.into();
        jwk[name] = value;
        jwk
    };
    let rsa = &test_keys().rs256;
    let weak = with(rsa, "the-weak-one", "n", "w".repeat(170).into());
    let set = json!({"keys": [
        weak,
        with(rsa, "the-encrypting-one", "use", "enc".into()),
        with(rsa, "the-unknown-one", "kty", "AKP".into()),
        good.jwk(),
    ]});
    let file = test_keys().folder().join("one-bad-key.json");
    fs::write(&file, set.to_string()).unwrap();
    let mut server = KeyServer::away();
    server.serve_text(&set.to_string()).await;
    // A file with one such key spoils no other file.
    let weak = test_keys().folder().join("one-bad-key.pem");
    fs::write(&weak, RSA_1024).unwrap();
    for keys in [format!("{},{}", weak.display(), file.display()), server.url()] {
        let builder = Stack::builder()
            .setting("jwt-keys", &keys)
            .setting("jwks-refresh-interval", "1s");
        let stack = builder.setting("jwt-algorithms", "").start().await;
        let mut client = stack.client().await;
        assert_eq!(code(&mut client, &good).await, Value::Null, "{keys}");
        assert_ne!(code(&mut client, &other).await, Value::Null, "{keys}");
        if keys == server.url() {
            let asked = server.requests();
            eventually(30.s(), "it is asked again and again", async || {
                if server.requests() > asked + 2 {
                    Ok(())
                } else {
                    Err(asked)
                }
            })
            .await;
        }
        assert_eq!(stack.workers()[0].is_ready().await, Ok(()));
        let log = stack.workers()[0].log();
        let told = |kid: &str, reason: &str| {
            let says = |line: &&Value| {
                line["why"]
                    .as_str()
                    .is_some_and(|why| why.contains(kid) && why.contains(reason))
            };
            log.iter().filter(says).count()
        };
        let all = [
            told("the-weak-one", "bits"),
            told("the-encrypting-one", "`use`"),
            told("the-unknown-one", "`kty`"),
        ];
        assert_eq!(all, [1, 1, 1], "{log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_removed_ends_what_it_has_proved_and_proves_it_anew_when_it_is_back() {
    let [old, new] = [(); 2].map(|()| Key::generate(Algorithm::Es256));
    let file = test_keys().folder().join("removed.json");
    let replace = |keys: &[&Key]| {
        let beside = file.with_extension("beside");
        fs::write(&beside, jwks(keys.iter().copied())).unwrap();
        fs::rename(&beside, &file).unwrap();
    };
    replace(&[&old, &new]);
    let builder = Stack::builder().terminators(2).workers(2).settings(&[
        ("jwt-keys", file.to_str().unwrap()),
        ("jwt-algorithms", "ES256"),
        ("jwt-leeway", "0s"),
        ("removed-key-grace", "0s"),
    ]);
    let stack = builder.start().await;
    let by = |key: &Key, subject: &str| token_for(subject).signed_with(key).mint();
    let all_logged = async |what: &str, times: usize| {
        eventually(60.s(), what, async || {
            let logged: Vec<_> = stack.workers().iter().map(|worker| worker.logged(what)).collect();
            match logged.iter().all(|count| *count >= times) {
                true => Ok(()),
                false => Err(logged),
            }
        })
        .await;
    };
    let olds = by(&old, "alice");
    let (mut silent, mut other) = (stack.client_of(0).await, stack.client_of(1).await);
    silent.authenticate(&olds).await;
    other.authenticate(&by(&new, "bob")).await;
    let mut renewed = stack.client_of(1).await;
    renewed.authenticate(&by(&old, "carol")).await;
    renewed.authenticate(&by(&new, "carol")).await;

    replace(&[&new]);
    let before = silent.expect_close(4503, 60.s()).await;
    let last = before.last().expect("an error before the close");
    assert_eq!(last["error"]["code"], "token_revoked", "{before:?}");
    all_logged(
        "keys are removed; what they have authenticated ends after the grace period",
        1,
    )
    .await;
    let answer = stack.client().await.try_authenticate(&olds).await;
    assert_eq!(answer["error"]["code"], "token_invalid", "{answer}");
    for client in [&mut other, &mut renewed] {
        assert_eq!(client.request("echo", None, json!(1)).await["payload"], 1);
    }

    // It was removed by mistake: the very same token is good again, and what it proves now stays.
    replace(&[&old, &new]);
    all_logged(
        "there are new keys; cached verifications by the old ones are dropped",
        2,
    )
    .await;
    let mut back = stack.client_of(0).await;
    back.authenticate(&olds).await;
    for number in 0..4 {
        assert_eq!(back.request("echo", None, json!(number)).await["payload"], number);
    }
    assert_eq!(stack.producer().await.push_to("alice", 1).await, "delivered");
}
