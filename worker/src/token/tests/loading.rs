//! From files to keys.

use std::io;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::super::{Fault, KeySource, Keys, Looks};
use super::signer::{
    ED, HMAC, ISSUER, P256, P384, RSA, SECRET, Signer, base64, faults, jwks, load, load_for, pem, with,
};
use crate::auth::identity::Issuer;
use crate::token::keys::kind::Kind;
use crate::token::keys::roca::tests::power;
use crate::token::keys::source::MAX_FILE_BYTES;

fn jwk_faults(jwk: Value) -> Vec<Fault> {
    faults(load("keys.json", jwks([jwk])))
}

/// A well-formed RSA modulus of that many bytes; its factors do not matter.
fn modulus(bytes: usize) -> Vec<u8> {
    vec![0xd5; bytes]
}

#[test]
fn every_kind_of_file_is_told_by_its_content() {
    for signer in [&HMAC, &RSA, &P256, &P384, &ED] {
        assert_eq!(load(signer.entry(), signer.file()).unwrap().len(), 1);
        assert_eq!(load("file", jwks([signer.jwk()])).unwrap().len(), 1);
    }
    let Signer::Rsa(pair) = &*RSA else {
        panic!("RSA is an RSA key")
    };
    let pkcs1 = pem(
        "RSA PUBLIC KEY",
        aws_lc_rs::signature::KeyPair::public_key(pair).as_ref(),
    );
    assert_eq!(load("file", pkcs1).unwrap().len(), 1);
}

#[test]
fn white_space_and_a_byte_order_mark_before_the_content_do_not_make_it_a_secret() {
    for before in ["\n", "  \r\n", "\u{feff}", "\u{feff}\n"] {
        for file in [jwks([RSA.jwk()]), RSA.file()] {
            let content = [before.as_bytes(), &file].concat();
            assert_eq!(
                load_for(&[ISSUER], &[Algorithm::RS256], &[("file", content)])
                    .unwrap()
                    .len(),
                1
            );
        }
    }
}

#[test]
fn a_pem_block_is_never_taken_for_a_secret() {
    let content = [b"# our key\n", &RSA.file()[..]].concat();
    assert_eq!(faults(load("hmac:file", content)), [Fault::PublicSecret(Looks::Pem)]);
}

#[test]
fn only_one_trailing_newline_is_no_part_of_a_secret() {
    let padded = |count: usize, end: &str| [&vec![b'k'; count][..], end.as_bytes()].concat();
    assert_eq!(
        faults(load("hmac:secret", padded(31, "\n\n"))),
        [Fault::GuessableSecret]
    );
    assert_eq!(faults(load("hmac:secret", padded(31, "\n"))), [Fault::WeakSecret(31)]);
    assert_eq!(faults(load("hmac:secret", padded(31, "\r\n"))), [Fault::WeakSecret(31)]);
    assert_eq!(faults(load("hmac:secret", Vec::new())), [Fault::WeakSecret(0)]);
    assert_eq!(
        jwk_faults(json!({"kty": "oct", "k": base64(&[7; 31])})),
        [Fault::WeakSecret(31)]
    );
}

#[test]
fn a_private_key_is_refused_by_its_name() {
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ] {
        assert_eq!(faults(load("file", pem(label, b"x"))), [Fault::PrivateKey], "{label}");
    }
    let with_parameters = [pem("EC PARAMETERS", b"x"), pem("EC PRIVATE KEY", b"x")].concat();
    assert_eq!(faults(load("file", with_parameters)), [Fault::PrivateKey]);
}

#[test]
fn pem_that_is_not_one_public_key_is_refused() {
    assert_eq!(faults(load("file", pem("CERTIFICATE", b"x"))), [Fault::Certificate]);
    assert_eq!(faults(load("file", pem("PUBLIC KEY", b"x"))), [Fault::UnsupportedKey]);
    assert_eq!(
        faults(load("file", pem("OPENSSH PUBLIC KEY", b"x"))),
        [Fault::UnsupportedKey]
    );
    assert_eq!(
        faults(load("file", [RSA.file(), RSA.file()].concat())),
        [Fault::SeveralPemBlocks]
    );
    for broken in [
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
    ] {
        assert_eq!(faults(load("file", broken.into())), [Fault::Pem], "{broken}");
    }
    let trailing = [&P256.file()[..], b"and more"].concat();
    assert_eq!(faults(load("file", trailing)), [Fault::Pem]);
}

#[test]
fn keys_of_other_forms_and_algorithms_are_refused() {
    let compressed =
        b"\x30\x39\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x22\x00";
    let point = [&compressed[..], b"\x02", &[0x11; 32]].concat();
    assert_eq!(faults(load("file", pem("PUBLIC KEY", &point))), [Fault::UnsupportedKey]);
    let Signer::Rsa(pair) = &*RSA else {
        panic!("RSA is an RSA key")
    };
    let public = aws_lc_rs::signature::KeyPair::public_key(pair);
    let mut for_pss_alone = AsDer::<PublicKeyX509Der>::as_der(public).unwrap().as_ref().to_vec();
    // The last byte of rsaEncryption makes it id-RSASSA-PSS.
    assert_eq!(std::mem::replace(&mut for_pss_alone[16], 0x0a), 0x01);
    assert_eq!(
        faults(load("file", pem("PUBLIC KEY", &for_pss_alone))),
        [Fault::UnsupportedKey]
    );
}

#[test]
fn an_rsa_key_of_a_weak_generator_is_refused() {
    let jwk = json!({"kty": "RSA", "n": base64(&power(128)), "e": "AQAB"});
    assert_eq!(jwk_faults(jwk), [Fault::FactorableRsa]);
}

#[test]
fn an_rsa_key_has_2048_to_8192_bits() {
    let jwk = |bytes: usize| json!({"kty": "RSA", "n": base64(&modulus(bytes)), "e": "AQAB"});
    assert_eq!(jwk_faults(jwk(128)), [Fault::RsaSize(1_024)]);
    assert_eq!(jwk_faults(jwk(255)), [Fault::RsaSize(2_040)]);
    assert_eq!(jwk_faults(jwk(256)), []);
    assert_eq!(jwk_faults(jwk(1_024)), []);
    assert_eq!(jwk_faults(jwk(1_025)), [Fault::RsaSize(8_200)]);
    let der = |n: &[u8]| [b"\x30\x81\x89\x02\x81\x81\x00", n, b"\x02\x03\x01\x00\x01"].concat();
    assert_eq!(
        faults(load("file", pem("RSA PUBLIC KEY", &der(&modulus(128))))),
        [Fault::RsaSize(1_024)]
    );
}

#[test]
fn numbers_that_form_no_key_are_refused() {
    let rsa = |n: &[u8], e: &[u8]| jwk_faults(json!({"kty": "RSA", "n": base64(n), "e": base64(e)}));
    for (n, e) in [
        (modulus(256), vec![]),
        (vec![], vec![1, 0, 1]),
        (modulus(256), vec![2]),
        (modulus(256), vec![1]),
    ] {
        assert_eq!(rsa(&n, &e), [Fault::NotAKey(Kind::Rsa)]);
    }
    let off_curve = with(P256.jwk(), "y", base64(&[1; 32]));
    assert_eq!(jwk_faults(off_curve), [Fault::NotAKey(Kind::P256)]);
    let off_curve = with(P384.jwk(), "y", base64(&[1; 48]));
    assert_eq!(jwk_faults(off_curve), [Fault::NotAKey(Kind::P384)]);
}

#[test]
fn a_curve_and_its_coordinates_must_agree() {
    for curve in ["P-521", "secp256k1", "Ed25519"] {
        assert_eq!(jwk_faults(with(P256.jwk(), "crv", curve)), [Fault::Curve]);
    }
    assert_eq!(jwk_faults(with(ED.jwk(), "crv", "X25519")), [Fault::Curve]);
    assert_eq!(jwk_faults(with(P256.jwk(), "crv", "P-384")), [Fault::Member("x")]);
    assert_eq!(
        jwk_faults(with(P256.jwk(), "y", base64(&[1; 31]))),
        [Fault::Member("y")]
    );
    assert_eq!(jwk_faults(with(ED.jwk(), "x", base64(&[1; 33]))), [Fault::Member("x")]);
    assert_eq!(jwk_faults(with(P256.jwk(), "x", "====")), [Fault::Member("x")]);
    assert_eq!(jwk_faults(with(P256.jwk(), "kty", "ec")), [Fault::KeyType]);
    assert_eq!(jwk_faults(json!({})), [Fault::Member("kty")]);
}

#[test]
fn what_a_jwk_forbids_is_obeyed() {
    assert_eq!(jwk_faults(with(RSA.jwk(), "use", "sig")), []);
    assert_eq!(jwk_faults(with(RSA.jwk(), "use", "enc")), [Fault::Use]);
    assert_eq!(jwk_faults(with(RSA.jwk(), "use", Value::Null)), [Fault::Use]);
    assert_eq!(jwk_faults(with(RSA.jwk(), "key_ops", vec!["sign", "verify"])), []);
    assert_eq!(jwk_faults(with(RSA.jwk(), "key_ops", vec!["sign"])), [Fault::KeyOps]);
    assert_eq!(jwk_faults(with(RSA.jwk(), "key_ops", "verify")), [Fault::KeyOps]);
    assert_eq!(jwk_faults(with(RSA.jwk(), "alg", "PS384")), []);
    for alg in [
        json!("HS256"),
        json!("ES256"),
        json!("RSA-OAEP"),
        json!("none"),
        json!(256),
        Value::Null,
    ] {
        assert_eq!(jwk_faults(with(RSA.jwk(), "alg", alg)), [Fault::AlgorithmUnfit]);
    }
    assert_eq!(jwk_faults(with(P256.jwk(), "alg", "ES384")), [Fault::AlgorithmUnfit]);
}

#[test]
fn a_private_member_in_a_public_key_is_refused() {
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for signer in [&RSA, &P256, &ED] {
            assert_eq!(jwk_faults(with(signer.jwk(), name, "AA")), [Fault::PrivateMember(name)]);
        }
    }
}

#[test]
fn a_kid_tells_keys_of_one_issuer_apart() {
    let named = |kid: Value| with(P256.jwk(), "kid", kid);
    assert_eq!(faults(load("keys", jwks([named(json!(""))]))), [Fault::EmptyKid]);
    assert_eq!(faults(load("keys", jwks([named(json!(1))]))), [Fault::Member("kid")]);
    assert_eq!(
        faults(load("keys", jwks([named(json!("a")), named(json!("a"))]))),
        [Fault::DuplicateKid]
    );
    let files = [("kid=a;a.pem", P256.file()), ("keys.json", jwks([named(json!("a"))]))];
    assert_eq!(faults(load_for(&[ISSUER], &[], &files)), [Fault::DuplicateKid]);
    assert_eq!(faults(load("kid=a;keys.json", jwks([P256.jwk()]))), [Fault::KidOnJwks]);
}

#[test]
fn a_kid_may_be_shared_by_eight_issuers() {
    let issuers: Vec<String> = (0..9).map(|index| format!("i{index}")).collect();
    let entries: Vec<String> = issuers
        .iter()
        .map(|issuer| format!("issuer={issuer};kid=1;a.pem"))
        .collect();
    let load = |count: usize| {
        let issuers: Vec<&str> = issuers.iter().take(count).map(String::as_str).collect();
        let files: Vec<_> = entries
            .iter()
            .take(count)
            .map(|entry| (entry.as_str(), P256.file()))
            .collect();
        faults(load_for(&issuers, &[], &files))
    };
    assert_eq!(load(8), []);
    assert_eq!(load(9), [Fault::KidSharedTooOften]);
}

#[test]
fn symmetric_and_asymmetric_keys_are_not_mixed() {
    assert_eq!(faults(load("keys", jwks([HMAC.jwk(), RSA.jwk()]))), [Fault::Mixed]);
    let files = [("rsa.pem", RSA.file()), ("hmac:secret", HMAC.file())];
    assert_eq!(faults(load_for(&[ISSUER], &[], &files)), [Fault::Mixed]);
    // Anyone who names both means both, and issuers do not share their keys.
    let both = [Algorithm::HS256, Algorithm::RS256];
    assert_eq!(faults(load_for(&[ISSUER], &both, &files)), []);
    let files = [("issuer=a;rsa.pem", RSA.file()), ("issuer=b;hmac:secret", HMAC.file())];
    assert_eq!(faults(load_for(&["a", "b"], &[], &files)), []);
}

#[test]
fn every_key_belongs_to_a_configured_issuer() {
    let load = |issuers: &[&str], entry: &str| faults(load_for(issuers, &[], &[(entry, P256.file())]));
    assert_eq!(load(&["a"], "k.pem"), []);
    assert_eq!(load(&["a"], "issuer=a;k.pem"), []);
    assert_eq!(load(&["a"], "issuer=b;k.pem"), [Fault::IssuerUnknown(Issuer::new("b"))]);
    assert_eq!(load(&["a", "b"], "k.pem"), [Fault::IssuerUnsaid]);
    assert_eq!(
        load(&["a", "b"], "issuer=a;k.pem"),
        [Fault::IssuerWithoutKeys(Issuer::new("b"))]
    );
    assert_eq!(load(&[], "k.pem"), [Fault::NoIssuer]);
}

#[test]
fn a_key_without_any_algorithm_left_is_refused() {
    let kind = Kind::P256;
    let refused = [Fault::NoAlgorithm {
        kind,
        usable: vec![Algorithm::ES256],
    }];
    assert_eq!(
        faults(load_for(&[ISSUER], &[Algorithm::RS256], &[("k.pem", P256.file())])),
        refused
    );
    let narrowed = jwks([with(RSA.jwk(), "alg", "PS256")]);
    let refused = [Fault::NoAlgorithm {
        kind: Kind::Rsa,
        usable: vec![Algorithm::PS256],
    }];
    assert_eq!(
        faults(load_for(&[ISSUER], &[Algorithm::RS256], &[("k.json", narrowed)])),
        refused
    );
}

#[test]
fn one_bad_key_spoils_no_other_and_is_told_with_its_name() {
    let named = |jwk: Value, kid: &str| with(jwk, "kid", kid);
    let bad = [
        named(with(RSA.jwk(), "use", "enc"), "encrypts"),
        named(json!({"kty": "AKP", "alg": "ML-DSA-44"}), "unknown"),
        named(json!({"kty": "RSA", "n": base64(&modulus(128)), "e": "AQAB"}), "weak"),
        named(json!({"kty": "RSA", "n": base64(&power(128)), "e": "AQAB"}), "roca"),
        named(with(P256.jwk(), "y", base64(&[1; 32])), "off-curve"),
        named(with(ED.jwk(), "d", "AA"), "private"),
        named(with(P384.jwk(), "alg", "HS256"), "unfit"),
        with(P256.jwk(), "kid", ""),
        // It bears the good key's name, and does not take it.
        named(with(P256.jwk(), "key_ops", json!(["sign"])), "good"),
    ];
    let all = jwks(bad.iter().cloned().chain([named(P256.jwk(), "good")]));
    for entry in ["keys.json", "https://issuer.example/keys"] {
        let keys = load(entry, all.clone()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys.candidates(Some("good"), Algorithm::ES256).unwrap().len(), 1);
        let told: Vec<_> = keys.passed_over().iter().map(ToString::to_string).collect();
        let names = [
            "encrypts",
            "unknown",
            "weak",
            "roca",
            "off-curve",
            "private",
            "unfit",
            "key 7",
            "good",
        ];
        assert_eq!(told.len(), names.len(), "{told:?}");
        for (told, name) in told.iter().zip(names) {
            assert!(told.contains(name) && told.contains(entry), "{name}: {told}");
        }
        // Where none is left, all of it is what is wrong.
        assert_eq!(faults(load(entry, jwks(bad.clone()))).len(), bad.len());
    }
}

#[test]
fn a_file_without_a_usable_key_spoils_no_other_of_its_issuer() {
    let weak = json!({"kty": "RSA", "n": base64(&modulus(128)), "e": "AQAB"});
    let weak_der = [
        b"\x30\x81\x89\x02\x81\x81\x00",
        &modulus(128)[..],
        b"\x02\x03\x01\x00\x01",
    ]
    .concat();
    let bad = [
        ("weak.pem", pem("RSA PUBLIC KEY", &weak_der)),
        ("unknown.pem", pem("PUBLIC KEY", b"x")),
        ("empty.json", jwks([])),
        ("weak.json", jwks([weak])),
        ("other.json", jwks([with(RSA.jwk(), "use", "enc")])),
        ("hmac:short.txt", b"short".to_vec()),
    ];
    for (entry, content) in bad.clone() {
        let files = [(entry, content.clone()), ("good.pem", P256.file())];
        let keys = load_for(&[ISSUER], &[], &files).unwrap();
        let told: Vec<_> = keys.passed_over().iter().map(ToString::to_string).collect();
        assert_eq!((keys.len(), told.len()), (1, 1), "{told:?}");
        assert!(told[0].contains(entry), "{told:?}");
        assert_eq!(faults(load(entry, content.clone())).len(), 1, "{entry} alone");
        // Another issuer's keys do not count.
        let [one, other] = ["issuer=a;", "issuer=b;"];
        let files = [
            (&*format!("{one}{entry}"), content),
            (&*format!("{other}good.pem"), P256.file()),
        ];
        assert_eq!(faults(load_for(&["a", "b"], &[], &files)).len(), 1, "{entry}");
    }
    assert_eq!(faults(load_for(&[ISSUER], &[], &bad)).len(), bad.len());
    // What is not a key that may not be used, but a mistake, is one whatever else there is.
    for (entry, content) in [
        ("private.pem", pem("PRIVATE KEY", b"x")),
        ("text", b"text".to_vec()),
        ("hmac:public", P256.file()),
        ("half.json", b"{".to_vec()),
    ] {
        let files = [(entry, content), ("good.pem", P256.file())];
        assert_eq!(faults(load_for(&[ISSUER], &[], &files)).len(), 1, "{entry}");
    }
}

#[test]
fn a_set_has_1_to_1000_keys() {
    assert_eq!(faults(load_for(&[ISSUER], &[], &[])), [Fault::NoKeys]);
    assert_eq!(faults(load("keys", jwks([]))), [Fault::NoKeys]);
    let many = |count: usize| jwks(std::iter::repeat_n(ED.jwk(), count));
    assert_eq!(load("keys", many(1_000)).unwrap().len(), 1_000);
    assert_eq!(faults(load("keys", many(1_001))), [Fault::TooManyKeys(1_001)]);
    let files = [("a", many(600)), ("b", many(401))];
    assert_eq!(faults(load_for(&[ISSUER], &[], &files)), [Fault::TooManyKeys(1_001)]);
}

#[test]
fn what_starts_like_a_jwks_must_be_one() {
    for content in [
        "{",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"kty":"oct","k":"AA"}"#,
    ] {
        assert!(
            matches!(faults(load("keys", content.into()))[..], [Fault::NotJwks { .. }]),
            "{content}"
        );
    }
    assert!(matches!(
        faults(load("keys", br#"{"keys":[{"kty":"oct","kty":"oct"}]}"#.to_vec()))[..],
        [Fault::NotJwks { .. }]
    ));
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_one_line_each() {
    let keys = jwks([
        with(with(P256.jwk(), "kid", "bad\nkid"), "use", "enc"),
        with(with(RSA.jwk(), "d", "AA"), "alg", "HS256"),
    ]);
    let files = [("keys.json", keys), ("issuer=nobody;hmac:short.txt", b"short".to_vec())];
    let errors = load_for(&[ISSUER], &[], &files).unwrap_err();
    let lines = [
        r#"jwt-keys "keys.json" key "bad\nkid": has a `use` other than `sig`"#,
        r#"jwt-keys "keys.json" key 1: has the private member `d`"#,
        r#"jwt-keys "keys.json" key 1: has an `alg` that does not fit the key"#,
        r#"jwt-keys "issuer=nobody;hmac:short.txt": belongs to the issuer "nobody", which `jwt-issuer` does not name"#,
        r#"jwt-keys "issuer=nobody;hmac:short.txt": is an HMAC secret of 5 bytes, at least 32 are needed"#,
    ];
    assert_eq!(errors.to_string().lines().collect::<Vec<_>>(), lines);
}

#[test]
fn keys_and_their_errors_show_no_secret() {
    let secret = base64(SECRET);
    let loaded = format!("{:?}", load("keys", jwks([HMAC.jwk()])).unwrap());
    let broken = format!(r#"{{"keys":"{secret}"}}"#);
    let refused = load("keys", broken.into_bytes()).unwrap_err();
    for shown in [loaded, refused.to_string(), format!("{refused:?}")] {
        assert!(
            !shown.contains(&secret) && !shown.contains(&format!("{SECRET:?}")),
            "{shown}"
        );
    }
}

#[test]
fn files_are_read_up_to_their_limit() {
    let directory = std::env::temp_dir().join(format!("countersign-keys-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let load =
        |path: &std::path::Path| Keys::load(&[path.to_str().unwrap().parse().unwrap()], &[Issuer::new(ISSUER)], &[]);
    let path = directory.join("secret");
    for (size, expected) in [
        (
            MAX_FILE_BYTES,
            vec![Fault::Unrecognized {
                looks: Looks::Text,
                named: None,
            }],
        ),
        (MAX_FILE_BYTES + 1, vec![Fault::FileTooLarge]),
    ] {
        std::fs::write(&path, vec![b'k'; size]).unwrap();
        assert_eq!(faults(load(&path)), expected);
    }
    // A folder, or a pipe, of which a reader would wait for ever.
    assert_eq!(faults(load(&directory)), [Fault::NotAFile]);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(faults(load(&path)), [Fault::Unreadable(io::ErrorKind::NotFound)]);
}

#[test]
fn an_entry_is_shown_as_it_was_written() {
    let source: KeySource = "issuer=a;kid=b;c.pem".parse().unwrap();
    assert_eq!(source.to_string(), "issuer=a;kid=b;c.pem");
}

/// Files that people have by mistake, each longer than a secret must be.
fn files_of_others() -> Vec<(Looks, Vec<u8>)> {
    let Signer::Rsa(pair) = &*RSA else {
        panic!("RSA is an RSA key")
    };
    let public = aws_lc_rs::signature::KeyPair::public_key(pair);
    let der = AsDer::<PublicKeyX509Der>::as_der(public).unwrap().as_ref().to_vec();
    let text = |text: &str| text.as_bytes().to_vec();
    let standard = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
    let hex = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect()
    };
    let wrapped = |bytes: &[u8]| standard(bytes).chunks(76).collect::<Vec<_>>().join(&b'\n');
    let compact = RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, r#"{"sub":"alice"}"#);
    let blob = [
        "\0\0\0\x07ssh-rsa\0\0\0\x03\x01\0\x01\0\0\x01\x01\0".as_bytes(),
        &modulus(256),
    ]
    .concat();
    let page = "upstream connect error or disconnect/reset before headers. reset reason: connection failure";
    let openpgp = [&b"\x99\x01\x8d\x04\x6b\x0d\xbc\x05\x01\x0c\x00"[..], &modulus(384)].concat();
    let dump = "Public-Key: (2048 bit)\nModulus:\n    00:cc:23:5c:7b:20:ce:62:50:c9:11:3b:be:cb:1e:\n    9f:a1:83";
    vec![
        (Looks::EncodedKey, standard(&der)),
        (Looks::EncodedKey, base64(&der).into_bytes()),
        (Looks::EncodedKey, wrapped(&der)),
        (Looks::EncodedKey, standard(&der[..der.len() / 2])),
        (Looks::EncodedKey, standard(&standard(&der))),
        (Looks::EncodedKey, standard(&RSA.file())),
        (Looks::EncodedKey, hex(&der)),
        (Looks::EncodedKey, [&b"PUBLIC_KEY="[..], &standard(&der)].concat()),
        (
            Looks::EncodedKey,
            [&b"data:application/octet-stream;base64,"[..], &standard(&der)].concat(),
        ),
        (Looks::Encoded, standard(&jwks([RSA.jwk()]))),
        (Looks::Encoded, standard(page.as_bytes())),
        (Looks::Encoded, standard(&openpgp)),
        (Looks::Ssh, blob.clone()),
        (Looks::Ssh, standard(&blob)),
        (Looks::Jwt, compact.into_bytes()),
        (Looks::OpenPgp, openpgp),
        // Of Ed25519: a key of 51 bytes, and behind it a name.
        (
            Looks::OpenPgp,
            [&b"\x98\x33\x04\x6b\x0d\xbc\x05\x16"[..], &modulus(45), b"\xb4\x03a@b"].concat(),
        ),
        (Looks::Format, [&b"\x1f\x8b\x08\0"[..], &modulus(64)].concat()),
        (Looks::Format, [&b"PK\x03\x04"[..], &modulus(64)].concat()),
        (Looks::Prose, text(page)),
        (Looks::Prose, text(dump)),
        (Looks::Prose, text("kty: RSA\nn: xjlCRBqkOyuVlSlhyw\ne: AQAB\n")),
        (Looks::Prose, text("https://login.example.com/realms/x/certs")),
        (
            Looks::Prose,
            [&b"Modulus="[..], &hex(&modulus(256)).to_ascii_uppercase()].concat(),
        ),
        (
            Looks::Prose,
            b"502 Passerelle d\xe9faillante, le serveur n'a pas r\xe9pondu".to_vec(),
        ),
        (Looks::Der, der[..der.len() - 1].to_vec()),
        (Looks::Der, der),
        (Looks::Der, public.as_ref().to_vec()),
        (Looks::Der, STANDARD.decode(CERTIFICATE).unwrap()),
        (Looks::Pem, RSA.file()),
        (Looks::Pem, pem("CERTIFICATE", b"x")),
        (Looks::Pem, [&b"Bag Attributes\n"[..], &P256.file()].concat()),
        (
            Looks::Ssh,
            text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3fQq7y2sYwTnXkL0Vb9uGmZc1HdReP5oQa8iKjW4tM me@host"),
        ),
        (
            Looks::Ssh,
            text("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBK"),
        ),
        (
            Looks::Ssh,
            text("login.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3fQq7y2sYwTnXkL0Vb9u"),
        ),
        (
            Looks::Markup,
            text("<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>"),
        ),
        (
            Looks::Markup,
            text("\u{feff}\r\n<?xml version=\"1.0\"?><EntityDescriptor entityID=\"x\"/>"),
        ),
        (Looks::Json, jwks([RSA.jwk()])),
        (
            Looks::Json,
            text("{\"keys\": [{\"kty\": \"RSA\", \"n\": \"cut in the middle"),
        ),
        (Looks::Json, text("[\"a list of things\", \"that somebody publishes\"]")),
    ]
}

/// A self-signed certificate of P-256, made for this test.
const CERTIFICATE: &str = include_str!("certificate.b64");

#[test]
fn nothing_becomes_a_secret_that_is_not_named_one() {
    for (looks, content) in files_of_others() {
        let verifies = load("file", content.clone());
        let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        if let Ok(keys) = verifies {
            for algorithm in algorithms {
                assert!(keys.candidates(None, algorithm).is_err(), "{looks}");
            }
        }
        assert_eq!(faults(load("hmac:file", content)), [Fault::PublicSecret(looks)]);
    }
}

#[test]
fn what_is_no_key_is_told_what_to_do_and_named_a_secret_only_if_it_could_be_one() {
    let told = |content: Vec<u8>| load("kid=a;file.pem", content).unwrap_err().to_string();
    for content in [HMAC.file(), base64(&modulus(16)).replace('1', "x").into_bytes()] {
        let is_secret = load("hmac:file.pem", content.clone()).is_ok();
        let told = told(content);
        assert!(told.contains("neither a JWKS nor a public key"), "{told}");
        assert_eq!(told.contains("hmac:file.pem"), is_secret, "{told}");
    }
    for (looks, content) in files_of_others() {
        let Err(errors) = load("kid=a;file.pem", content) else {
            continue;
        };
        let told = errors.to_string();
        assert!(!told.contains("hmac:"), "{looks}: {told}");
        match looks {
            Looks::Ssh => assert!(told.contains("ssh-keygen -e -m PKCS8"), "{told}"),
            Looks::EncodedKey => assert!(told.contains("base64 -d"), "{told}"),
            _ => {}
        }
    }
    let bag = [&b"Bag Attributes\n"[..], &P256.file()].concat();
    assert!(told(bag).contains("remove what is before"));
}

proptest::proptest! {
    #[test]
    fn no_content_whatever_is_a_secret_without_being_named_one(content in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        proptest::prop_assert!(load("file", content).is_err());
    }
}

#[test]
fn a_public_key_in_der_is_the_one_in_pem() {
    let Signer::Rsa(pair) = &*RSA else {
        panic!("RSA is an RSA key")
    };
    let public = aws_lc_rs::signature::KeyPair::public_key(pair);
    let spki = AsDer::<PublicKeyX509Der>::as_der(public).unwrap().as_ref().to_vec();
    let certificate = STANDARD.decode(CERTIFICATE).unwrap();
    let in_pem = pem("CERTIFICATE", &certificate);
    for (content, algorithm) in [
        (spki, Algorithm::RS256),
        (public.as_ref().to_vec(), Algorithm::PS512),
        (certificate, Algorithm::ES256),
        (in_pem, Algorithm::ES256),
    ] {
        let keys = load("key", content).unwrap();
        assert_eq!((keys.len(), keys.candidates(None, algorithm).unwrap().len()), (1, 1));
    }
    let private = b"\x30\x0b\x02\x01\x00\x30\x06\x06\x04\x2b\x65\x70\x01";
    assert_eq!(faults(load("key", private.to_vec())), [Fault::PrivateKey]);
}

#[test]
fn a_secret_serves_the_hashes_that_it_is_long_enough_for() {
    let secret = SECRET.iter().copied().cycle();
    let random: Vec<u8> = secret
        .zip(0_u8..)
        .map(|(byte, step)| byte ^ step.wrapping_mul(37))
        .take(64)
        .collect();
    for (bytes, fitting) in [(32, 1), (47, 1), (48, 2), (63, 2), (64, 3)] {
        let keys = load("hmac:secret", random[..bytes].to_vec()).unwrap();
        let serves = |algorithm: &Algorithm| keys.candidates(None, *algorithm).is_ok();
        let all = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        assert_eq!(
            all.iter().filter(|algorithm| serves(algorithm)).count(),
            fitting,
            "{bytes}"
        );
    }
}
