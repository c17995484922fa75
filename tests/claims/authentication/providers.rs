//! Each recipe of `docs/identity-providers.md`, started as it stands there, with discovery documents, key sets and tokens of
//! the shape that the provider gives. Only the hosts are ours.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tests::{Algorithm, Key, Provider, Span, Stack, test_keys, token_for, tool};

/// A recipe: which section it is, who is asked, and what they answer.
struct Recipe {
    section: &'static str,
    /// The hosts that occur in it, each of which is one of our own here.
    hosts: &'static [&'static str],
    /// URLs, and what is served there.
    documents: Vec<(&'static str, Value)>,
}

/// Where its pieces are on this machine.
struct Local {
    providers: Vec<(&'static str, Provider)>,
    settings: Vec<(String, String)>,
    stack: Stack,
}

impl Recipe {
    async fn start(self) -> Local {
        let mut providers = Vec::new();
        for host in self.hosts {
            providers.push((*host, Provider::start().await));
        }
        for (url, document) in &self.documents {
            let rest = url.strip_prefix("https://").unwrap();
            let (host, path) = rest.split_at(rest.find('/').unwrap());
            let (_, provider) = providers.iter().find(|(name, _)| *name == host).unwrap();
            provider.serve(path, &localized(&providers, &document.to_string()));
        }
        let settings: Vec<_> = settings_of(self.section)
            .into_iter()
            .map(|(name, value)| (name, localized(&providers, &value)))
            .collect();
        let builder = Stack::builder().setting("jwt-keys", "").setting("jwt-algorithms", "");
        let builder = settings
            .iter()
            .fold(builder, |builder, (name, value)| builder.setting(name, value));
        let stack = builder.start().await;
        Local {
            providers,
            settings,
            stack,
        }
    }
}

impl Local {
    /// A token with that header and these claims, besides the times that all have.
    fn token(&self, key: &Key, header: &Value, claims: &Value) -> String {
        let local =
            |value: &Value| -> Value { serde_json::from_str(&localized(&self.providers, &value.to_string())).unwrap() };
        let blank = ["iss", "aud", "sub", "jti"]
            .into_iter()
            .fold(token_for("x"), |token, name| token.without(name));
        let token = blank
            .signed_with(key)
            .without_header("typ")
            .without_header("kid")
            .without_header("alg");
        let (header, claims) = (local(header), local(claims));
        let header = header.as_object().unwrap().iter();
        let token = header.fold(token, |token, (name, value)| token.header(name, value.clone()));
        let claims = claims.as_object().unwrap().iter();
        claims
            .fold(token, |token, (name, value)| token.claim(name, value.clone()))
            .mint()
    }

    /// Whose a message with this token is: `alice`, or the code and the reason of the refusal; the tool says the same.
    async fn says(&self, kind: &str, token: &str) -> Result<String, String> {
        let answer = self.stack.client().await.request(kind, Some(token), json!(1)).await;
        let flags = self.settings.iter().filter(|(name, _)| name.starts_with("jw"));
        let flags: Vec<String> = flags.map(|(name, value)| format!("--{name}={value}")).collect();
        let mut arguments = vec!["token", "verify", "--json"];
        arguments.extend(flags.iter().map(String::as_str));
        let said = tool(&arguments, token);
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let error = &answer["error"];
        if answer["type"] == "reply" || error["code"] == "forbidden" {
            assert_eq!(verdict["valid"], true, "{said:?}");
        } else {
            assert_eq!(
                (&verdict["valid"], &verdict["reason"]),
                (&json!(false), &error["message"]),
                "{said:?}"
            );
        }
        match answer["auth"]["subject"].as_str() {
            Some(subject) if answer["type"] == "reply" => Ok(subject.to_owned()),
            _ => Err(format!("{}: {}", error["code"], error["message"])),
        }
    }

    async fn accepts(&self, kind: &str, token: &str, subject: &str) {
        assert_eq!(self.says(kind, token).await, Ok(subject.to_owned()));
    }

    async fn refuses(&self, kind: &str, token: &str, why: &str) {
        let refusal = self.says(kind, token).await.expect_err(why);
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
}

/// The text with our hosts in it instead of theirs.
fn localized(providers: &[(&'static str, Provider)], text: &str) -> String {
    providers.iter().fold(text.to_owned(), |text, (host, provider)| {
        let url = text.replace(&format!("https://{host}"), &provider.base());
        url.replace(host, &provider.host())
    })
}

/// The settings of a section of the page, as they stand there.
fn settings_of(section: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity-providers.md");
    let page = fs::read_to_string(path).unwrap();
    let (_, behind) = page
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("no {section}"));
    let (_, block) = behind.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let setting = |line: &str| {
        let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    block.lines().map(setting).collect()
}

/// An RSA key of that name, as the provider publishes it; one key is much like another.
fn published(kid: &str, more: &Value) -> Value {
    let mut jwk = test_keys().rs256.jwk();
    jwk["kid"] = kid.into();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => _ = jwk.as_object_mut().unwrap().remove(name),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

fn signer() -> &'static Key {
    &test_keys().rs256
}

fn discovery(issuer: &str, keys: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": keys,
        "subject_types_supported": ["public"],
        "response_types_supported": ["code", "id_token"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn x5c() -> Value {
    json!(["MIICmzCCAYMCBgGK…"])
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak() {
    let issuer = "https://keycloak.example.com/realms/acme";
    let certs = "https://keycloak.example.com/realms/acme/protocol/openid-connect/certs";
    let encrypts = published("nMvGPjr4", &json!({"use": "enc", "alg": "RSA-OAEP", "x5c": x5c()}));
    let signs = published(
        "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE",
        &json!({"x5c": x5c(), "x5t": "RSVzdAs0ArO0gEAtWXjs5-KS"}),
    );
    let local = Recipe {
        section: "Keycloak",
        hosts: &["keycloak.example.com"],
        documents: vec![
            (
                "https://keycloak.example.com/realms/acme/.well-known/openid-configuration",
                discovery(issuer, certs),
            ),
            (certs, json!({"keys": [encrypts, signs]})),
        ],
    }
    .start()
    .await;
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"});
    let claims = |more: Value| {
        let mut claims = json!({
            "iss": issuer, "aud": "account", "sub": "f4888ce3-a76b-43a4-8b6c-0ad5e0d3d6a5", "typ": "Bearer", "azp": "chat",
            "jti": "onrtac:4a4c3c33-a2a6-4a8f-a7f1-6f0f3a0d3d6a", "sid": "b2f2bf5b-7b1f-4b2c-8e3f-1f2a3b4c5d6e", "acr": "1",
            "allowed-origins": ["https://app.example.com"], "realm_access": {"roles": ["offline_access", "default-roles-acme"]},
            "resource_access": {"account": {"roles": ["manage-account"]}}, "scope": "openid profile email",
            "email_verified": true, "preferred_username": "alice",
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let token = |more: Value| local.token(signer(), &header, &claims(more));
    let alice = "f4888ce3-a76b-43a4-8b6c-0ad5e0d3d6a5";
    local.accepts("echo", &token(json!({})), alice).await;
    local
        .accepts(
            "echo",
            &token(json!({"aud": ["chat", "account"], "azp": "other"})),
            alice,
        )
        .await;
    local.refuses("admin.x", &token(json!({})), "chat-admin").await;
    local
        .accepts(
            "admin.x",
            &token(json!({"realm_access": {"roles": ["chat-admin"]}})),
            alice,
        )
        .await;
    local
        .refuses("echo", &token(json!({"azp": "another"})), "jwt-audience-claims")
        .await;
    local
        .refuses("echo", &token(json!({"typ": "ID", "aud": "chat"})), "no access token")
        .await;
    local
        .refuses("echo", &token(json!({"iss": format!("{issuer}2")})), "`iss`")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auth0() {
    let issuer = "https://acme.eu.auth0.com/";
    let keys = "https://acme.eu.auth0.com/.well-known/jwks.json";
    let more = json!({"x5c": x5c(), "x5t": "wQ7u5P0"});
    let local = Recipe {
        section: "Auth0",
        hosts: &["acme.eu.auth0.com"],
        documents: vec![
            (
                "https://acme.eu.auth0.com/.well-known/openid-configuration",
                discovery(issuer, keys),
            ),
            (
                keys,
                json!({"keys": [published("yKZpAGq5WQ6rTrRuX7iMs", &more), Key::generate(Algorithm::Rs256).jwk()]}),
            ),
        ],
    }
    .start()
    .await;
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "yKZpAGq5WQ6rTrRuX7iMs"});
    let mut claims = json!({
        "iss": issuer, "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "azp": "my_client_id", "scope": "openid profile offline_access",
        "aud": ["https://chat.example.com", "https://acme.eu.auth0.com/userinfo"], "permissions": [],
    });
    let alice = "auth0|5f7c8ec7c33c6c004bbafe82";
    local
        .accepts("echo", &local.token(signer(), &header, &claims), alice)
        .await;
    local
        .refuses("admin.x", &local.token(signer(), &header, &claims), "chat:admin")
        .await;
    claims["permissions"] = json!(["chat:admin"]);
    local
        .accepts("admin.x", &local.token(signer(), &header, &claims), alice)
        .await;
    claims["aud"] = "https://acme.eu.auth0.com/userinfo".into();
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "`aud`")
        .await;
    // Without an audience it is a JWE for Auth0 itself.
    local
        .refuses("echo", "eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA", "encrypted")
        .await;
}

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

fn entra_claims(tenant: &str) -> Value {
    json!({
        "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"), "aud": "8f0f5e3a-1111-4222-8333-944455556666",
        "aio": "AXQAi/8TAAAA", "azp": "9c0a1b2c-0000-4000-8000-000000000001", "azpacr": "0", "name": "Alice",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "preferred_username": "alice@example.com", "rh": "0.AXkA", "scp": "Chat.Send",
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": tenant, "uti": "bHRbHRbHRbHR", "ver": "2.0",
    })
}

const ALICE_AT_ENTRA: &str = "690222be-ff1a-4d56-abd1-7e4f7d38e474";

fn entra_key(issuer: &str) -> Value {
    let more = json!({"alg": null, "x5t": "2ZQpJ3UpbjAYXYGaXEJl8lV0TOI", "x5c": x5c(), "issuer": issuer, "cloud_instance_name": "microsoftonline.com"});
    published("2ZQpJ3UpbjAYXYGaXEJl8lV0TOI", &more)
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_id_one_tenant() {
    let issuer = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
    let keys = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/discovery/v2.0/keys";
    let openid =
        "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0/.well-known/openid-configuration";
    let local = Recipe {
        section: "Entra ID, one tenant",
        hosts: &["login.microsoftonline.com"],
        documents: vec![
            (openid, discovery(issuer, keys)),
            (keys, json!({"keys": [entra_key(issuer)]})),
        ],
    }
    .start()
    .await;
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": "2ZQpJ3UpbjAYXYGaXEJl8lV0TOI", "kid": "2ZQpJ3UpbjAYXYGaXEJl8lV0TOI"});
    let token = |name: &str, value: Value| {
        let mut claims = entra_claims(TENANT);
        claims[name] = value;
        local.token(signer(), &header, &claims)
    };
    local
        .accepts("echo", &token("scp", json!("Chat.Send User.Read")), ALICE_AT_ENTRA)
        .await;
    local
        .accepts("admin.x", &token("roles", json!(["Chat.Admin"])), ALICE_AT_ENTRA)
        .await;
    local.refuses("admin.x", &token("roles", json!([])), "Chat.Admin").await;
    local
        .refuses("echo", &token("scp", json!("User.Read")), "Chat.Send")
        .await;
    local
        .refuses(
            "echo",
            &token("iss", json!(format!("https://sts.windows.net/{TENANT}/"))),
            "`iss`",
        )
        .await;
    local
        .refuses("echo", &token("oid", Value::Null), "jwt-subject-claim")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_id_any_tenant() {
    let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let keys = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
    let openid = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration";
    let local = Recipe {
        section: "Entra ID, any tenant",
        hosts: &["login.microsoftonline.com"],
        documents: vec![
            (openid, discovery(issuer, keys)),
            (keys, json!({"keys": [entra_key(issuer)]})),
        ],
    }
    .start()
    .await;
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "2ZQpJ3UpbjAYXYGaXEJl8lV0TOI"});
    let other = "9188040d-6c67-4c5b-b112-36a304b66dad";
    for tenant in [TENANT, other] {
        let token = local.token(signer(), &header, &entra_claims(tenant));
        local.accepts("echo", &token, ALICE_AT_ENTRA).await;
    }
    let mut of_another = entra_claims(TENANT);
    of_another["tid"] = other.into();
    local
        .refuses("echo", &local.token(signer(), &header, &of_another), "`iss`")
        .await;
    // The same person's number in two tenants is two identities, and each is told apart by its issuer.
    let mut here = local.stack.client().await;
    let token = local.token(signer(), &header, &entra_claims(TENANT));
    assert_eq!(here.request("echo", Some(&token), json!(1)).await["type"], "reply");
    assert_eq!(
        here.request("echo", None, json!(2)).await["payload"],
        2,
        "the connection knows whose it is"
    );
    let there = local.token(signer(), &header, &entra_claims(other));
    let answer = here.request("echo", Some(&there), json!(3)).await;
    assert_eq!(answer["error"]["code"], "identity_mismatch", "{answer}");
    let mut here = local.stack.client().await;
    assert_eq!(here.request("echo", Some(&token), json!(1)).await["type"], "reply");
    let issuer = localized(
        &local.providers,
        &format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
    );
    let mut producer = local.stack.producer().await;
    producer
        .revoke(&json!({"issuer": issuer, "subject": ALICE_AT_ENTRA}))
        .await;
    here.expect_close(4503, 30.s()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amazon_cognito() {
    let issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123";
    let keys = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123/.well-known/jwks.json";
    let openid = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123/.well-known/openid-configuration";
    let local = Recipe {
        section: "Amazon Cognito",
        hosts: &["cognito-idp.eu-west-1.amazonaws.com"],
        documents: vec![
            (openid, discovery(issuer, keys)),
            (keys, json!({"keys": [Key::generate(Algorithm::Rs256).jwk(), published("abcdefghijklmnopqrsexample=", &json!({}))]})),
        ],
    }
    .start()
    .await;
    let header = json!({"kid": "abcdefghijklmnopqrsexample=", "alg": "RS256"});
    let alice = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
    let mut claims = json!({
        "sub": alice, "device_key": "eu-west-1_1111", "iss": issuer, "version": 2, "client_id": "1h57kf5cpq17m0eml12EXAMPLE",
        "origin_jti": "aaaaaaaa-0000-cccc", "event_id": "64f513be-32db-42b0-b78e-b02127b4f463", "token_use": "access",
        "scope": "aws.cognito.signin.user.admin openid", "username": "alice", "jti": "aaaaaaaa-1111",
    });
    local
        .accepts("echo", &local.token(signer(), &header, &claims), alice)
        .await;
    local
        .refuses("admin.x", &local.token(signer(), &header, &claims), "admins")
        .await;
    claims["cognito:groups"] = json!(["admins"]);
    local
        .accepts("admin.x", &local.token(signer(), &header, &claims), alice)
        .await;
    let id = json!({
        "sub": alice, "iss": issuer, "aud": "1h57kf5cpq17m0eml12EXAMPLE", "token_use": "id", "cognito:username": "alice",
        "at_hash": "AAAAAAAAAAAAAAAAAAAAAA", "email_verified": true, "event_id": "64f513be",
    });
    local
        .refuses("echo", &local.token(signer(), &header, &id), "no access token")
        .await;
    claims["client_id"] = "another".into();
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "jwt-audience-claims")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn okta() {
    let issuer = "https://acme.okta.com/oauth2/default";
    let keys = "https://acme.okta.com/oauth2/default/v1/keys";
    let local = Recipe {
        section: "Okta",
        hosts: &["acme.okta.com"],
        documents: vec![
            (
                "https://acme.okta.com/oauth2/default/.well-known/openid-configuration",
                discovery(issuer, keys),
            ),
            (
                keys,
                json!({"keys": [published("U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM", &json!({}))]}),
            ),
        ],
    }
    .start()
    .await;
    let header = json!({"kid": "U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM", "alg": "RS256"});
    let mut claims = json!({
        "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "iss": issuer, "aud": "api://default",
        "cid": "nmdP1fcyvdVO11AL7ECm", "uid": "00ujmkLgagxeRrAg20g3", "scp": ["openid", "chat.send"], "sub": "alice@example.com",
    });
    local
        .accepts("echo", &local.token(signer(), &header, &claims), "00ujmkLgagxeRrAg20g3")
        .await;
    local
        .refuses("admin.x", &local.token(signer(), &header, &claims), "chat.admin")
        .await;
    claims["scp"] = json!(["chat.admin"]);
    local
        .accepts(
            "admin.x",
            &local.token(signer(), &header, &claims),
            "00ujmkLgagxeRrAg20g3",
        )
        .await;
    claims.as_object_mut().unwrap().remove("uid");
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "jwt-subject-claim")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google() {
    let (issuer, keys) = (
        "https://accounts.google.com",
        "https://www.googleapis.com/oauth2/v3/certs",
    );
    let local = Recipe {
        section: "Google",
        hosts: &["accounts.google.com", "www.googleapis.com"],
        documents: vec![
            ("https://accounts.google.com/.well-known/openid-configuration", discovery(issuer, keys)),
            (keys, json!({"keys": [Key::generate(Algorithm::Rs256).jwk(), published("1f40f0a8ef3d880978dc82f25c3ec317c6a5b781", &json!({}))]})),
        ],
    }
    .start()
    .await;
    let header = json!({"alg": "RS256", "kid": "1f40f0a8ef3d880978dc82f25c3ec317c6a5b781", "typ": "JWT"});
    let client = "1234567890-abc123def456.apps.googleusercontent.com";
    let mut claims = json!({
        "iss": issuer, "azp": client, "aud": client, "sub": "110169484474386276334", "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
        "hd": "example.com", "email": "alice@example.com", "email_verified": true, "nonce": "0394852-3190485-2490358",
    });
    local
        .accepts(
            "echo",
            &local.token(signer(), &header, &claims),
            "110169484474386276334",
        )
        .await;
    claims["hd"] = "elsewhere.example".into();
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "jwt-required-claims")
        .await;
    claims["aud"] = "another.apps.googleusercontent.com".into();
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "`aud`")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firebase() {
    let issuer = "https://securetoken.google.com/acme-chat";
    let keys = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";
    // Some of its keys have a zero before the modulus.
    let modulus = test_keys().rs256.jwk()["n"].as_str().unwrap().to_owned();
    let decode = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
    let zero = [&[0][..], &decode(&modulus)].concat();
    let zero = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, zero);
    let local = Recipe {
        section: "Firebase",
        hosts: &["securetoken.google.com", "www.googleapis.com"],
        documents: vec![
            (
                "https://securetoken.google.com/acme-chat/.well-known/openid-configuration",
                discovery(issuer, keys),
            ),
            (
                keys,
                json!({"keys": [published("8e81c57e9f4ba39dbdd8", &json!({"n": zero}))]}),
            ),
        ],
    }
    .start()
    .await;
    let header = json!({"alg": "RS256", "kid": "8e81c57e9f4ba39dbdd8", "typ": "JWT"});
    let mut claims = json!({
        "iss": issuer, "aud": "acme-chat", "user_id": "ZvQmXW5r0PZ", "sub": "ZvQmXW5r0PZ", "email": "alice@example.com",
        "email_verified": false, "firebase": {"identities": {"email": ["alice@example.com"]}, "sign_in_provider": "password"},
    });
    local
        .accepts("echo", &local.token(signer(), &header, &claims), "ZvQmXW5r0PZ")
        .await;
    claims["aud"] = "another-project".into();
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "`aud`")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sap_and_uaa() {
    let keys = "https://acme.authentication.eu10.hana.ondemand.com/token_keys";
    let value = json!({"value": "-----BEGIN PUBLIC KEY-----\nMIIB…\n-----END PUBLIC KEY-----"});
    let local = Recipe {
        section: "SAP BTP and Cloud Foundry UAA",
        hosts: &["acme.authentication.eu10.hana.ondemand.com"],
        documents: vec![(keys, json!({"keys": [published("default-jwt-key-1281344942", &value)]}))],
    }
    .start()
    .await;
    let header =
        json!({"alg": "RS256", "jku": keys, "kid": "default-jwt-key-1281344942", "typ": "JWT", "jid": "8Tl1Jm"});
    let alice = "5f8ff6b1-6d6c-4a40-9f1b-0f2c4a8c1111";
    let mut claims = json!({
        "jti": "4c5e1b0a", "ext_attr": {"enhancer": "XSUAA", "subaccountid": "9c0a", "zdn": "acme"}, "xs.system.attributes": {"xs.rolecollections": ["Chat"]},
        "given_name": "Alice", "sub": alice, "scope": ["openid", "chat!t4711.Send"], "client_id": "sb-chat!t4711", "cid": "sb-chat!t4711",
        "azp": "sb-chat!t4711", "grant_type": "authorization_code", "user_id": alice, "origin": "sap.default", "user_name": "alice@example.com",
        "auth_time": 1_700_000_000, "rev_sig": "f5b3a1", "zid": "9c0a1b2c", "aud": ["chat!t4711", "openid", "sb-chat!t4711"],
        "iss": "https://acme.authentication.eu10.hana.ondemand.com/oauth/token",
    });
    local
        .accepts("echo", &local.token(signer(), &header, &claims), alice)
        .await;
    local
        .refuses("admin.x", &local.token(signer(), &header, &claims), "chat!t4711.Admin")
        .await;
    // Anyone who writes a token may name a place of their own in it; no one goes there.
    let (evil, stranger) = (Provider::start().await, Key::generate(Algorithm::Rs256));
    evil.serve("/token_keys", &tests::tokens::key::jwks([&stranger]));
    let mut forged = header.clone();
    forged["jku"] = format!("{}/token_keys", evil.base()).into();
    local
        .refuses("echo", &local.token(&stranger, &forged, &claims), "signature")
        .await;
    assert_eq!(evil.requests("/token_keys"), 0);
    claims["aud"] = json!(["another!t4711"]);
    local
        .refuses("echo", &local.token(signer(), &header, &claims), "`aud`")
        .await;
}

#[test]
fn every_recipe_of_the_page_is_a_claim() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity-providers.md");
    let page = fs::read_to_string(path).unwrap();
    let here = include_str!("providers.rs");
    let sections = page
        .split("\n## ")
        .skip(1)
        .filter(|section| section.contains("```toml"));
    let titles: Vec<_> = sections.map(|section| section.lines().next().unwrap()).collect();
    assert_eq!(titles.len(), 9, "{titles:?}");
    for title in titles {
        assert!(here.contains(&format!("section: \"{title}\"")), "{title}");
    }
}
