//! Tokens under other keys than the deployment's secret, and attacks on how a
//! key is chosen: a token names a key and chooses nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use galley_api::{AuthConfig, KeySet, TokenRules};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::access::good_claims;
use crate::api::{Answer, SECRET, app, app_with, ask_of, request};

/// Whose tokens the keys vouch for.
const ISSUER: &str = "https://id.example";

/// Keys of these tests; they open nothing else.
const EC: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420e52a8d1ed314639bdefdfe61c2d1447c675970e5033af4d7ac037a97c9c5a7a5a14403420004ddb69eadb17703feef8a3dcfb537b852a17c12ea51bc766e873b69de2904c3e7520a390ec9553baedd629c5846ff22e77c5096d2e3a39b09e8fc13cc28e763a3";
const RSA: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCmYHljYph81QMh
FoB/68BC0MUGsbax5yFJyL5CC8uTvI0lsgc3T4UuYjcgnX6lHhzrKLF3sgyiqrPV
zRQP5ukWIcsSuxoHoqRhXo8otJAmmFTQbNoOP8Dh+qjzHCDVmVaVacJDIrzQOJTK
ylCBklN79aQ8UJXzea1ouTm9C+oCzxR7edmah5NRnJnNapKBNJLpoHpI1WrYCS5p
UWF0vX25lysTRXfqnW3qmPpbNHMKiNkO2uUJ5RY8ZgmkzQlioE4xbv+gLlZXO+oT
OM8pzn1hvpMl0R2nEAjSYJC51hIuKqRL0z6Cy+qwdjv4BMu9Kn8a+lwZhtPcaSrC
ObDfRuk1AgMBAAECgf8JexOs7ExdJ6LbWMl9zExReLq2OkOgaHwIZWp4hHwBLsfh
HNDaI04bzODLP20V3RFTQ3mKibCXSlZysQvlIVEW3Amj42FVhs4ZMkFiB5KzVKcp
rUdw1bU6lz2L0hXC13BnWHmiFh+CbyLZig5wMfJ+Nsp5nVmL7iHl4ePE+wHHb47x
KR1eglbAHI2rV/Nf97QBuBHrLDCJUwKJl8pixL6jPrTCvuP4Ow3kgDYwR8iw8CoG
OpIzc2M5ga2aAah6E/iHmgWYyBI7N4eiKoZ4Q5wYoBbnbpu/swKFIGJrbP12guYg
L7BUlDz3xdYIhemb+Dae0SsX7V3+RI89z6hplXECgYEA0HYD48nBiIWptHFI0uND
P1e0q3F7oVmbKRXqpqEGfakaXHbR6acFssuRqw5HLTO+njr0vzqFAq6XrTbOoZfo
kYyMxu8wZOiZJ0Z0BYslNHmAbNLr5dA0WiYx5iyV0xXC5dWbxLJt5EourX2mX5K0
pOUs0ZKFmpLM2RWc1GiPnS0CgYEAzFGUh5YlgJXM5R9AM5bEozXcHSj1xRuuxEMH
IhBDarndXKqY6RJIkC1K5u8WQoe7RnfMd8bvb509Kq/mbFVV/EH9rnLiG0HYyLyV
MT55UEUvsG5itb20C7pmbFJxuw+3bRaFj4o352PvZDAwd2spxpYP8DOnvlpyObox
zf/p0SkCgYEAiggK7VLTrlVrGIsGgHVxOskVXYxII3+UyPC1Ll5jUOOfC+i1d/Rb
Rpeavdw3bwvbRSSemNzj4/G9hzlKOx++JFofgT4yGi8V8japbl5DZWqqieRjxQlH
EQZHdjTBhELdiZgWi3jmYQppvAD+IDyhFqqVMbPGeaKIt5mi/da6eYUCgYEAo1De
WZaRuXuEAOz+432zBgaKQCC6euiKxMQTEo5PZSLWJzkR6tM7f0tE4NzhPSLDditS
G7e/McdM2i8qDxQTHAUfom6f/0ud3a6nzmnyjFARM4S4kC7nmKxRLGqmD/EbHC5x
afAAiYufEcVXKE1XYi4W5VhUz9n6Ddyf7NqPaikCgYBa2ECxbauKM+jhAoc/0peW
9AH/WyjbTnhPnGQ4Vx/hO8O2usegUwxLZLXna2vapIS6NpX1v5tF21PKKtVJJ3GQ
4ptkn+7nL6MqWqIQncvrknoSe3rGYrmnMeaoBQRht+5z7iahVhVJL0A6SKkOe3BF
Wmk6QO1IV3XINmVn7Z5GJg==
-----END PRIVATE KEY-----
";

pub(crate) fn ed(seed: u8) -> EncodingKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn ec() -> EncodingKey {
    let bytes: Vec<u8> =
        (0..EC.len()).step_by(2).map(|at| u8::from_str_radix(&EC[at..at + 2], 16).unwrap()).collect();
    EncodingKey::from_ec_der(&bytes)
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap()
}

/// A key's public half, under a name.
fn public(kid: &str, key: &EncodingKey, algorithm: Algorithm) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn key_file() -> String {
    let shared = EncodingKey::from_secret(&[7; 32]);
    json!({ "keys": [
        public("ed", &ed(1), Algorithm::EdDSA),
        public("ec", &ec(), Algorithm::ES256),
        public("rsa", &rsa(), Algorithm::RS256),
        public("shared", &shared, Algorithm::HS256),
    ]})
    .to_string()
}

fn rules() -> TokenRules {
    TokenRules { issuer: ISSUER.into(), ..TokenRules::default() }
}

fn claims() -> Value {
    let mut claims = good_claims();
    claims["iss"] = ISSUER.into();
    claims
}

fn head(algorithm: Algorithm, kid: &str) -> Header {
    Header { kid: Some(kid.into()), ..Header::new(algorithm) }
}

fn sign(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    jsonwebtoken::encode(&head(algorithm, kid), &claims(), key).unwrap()
}

/// A token whose header says this, signed with the deployment's secret.
fn with_head(head: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(head), part(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Asks for what only its handler refuses: 400 says that the token got in.
async fn ask_as(app: &axum::Router, token: &str) -> Answer {
    let request =
        request("GET", "/v1/tasks?limit=0").header(header::AUTHORIZATION, format!("Bearer {token}"));
    ask_of(app, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_file_vouches_with_one_algorithm_per_key() {
    let keys = KeySet::parse(&key_file()).unwrap();
    let app = app_with(AuthConfig { keys, rules: rules(), ..AuthConfig::default() });
    let shared = EncodingKey::from_secret(&[7; 32]);
    let rsa = rsa();
    for (algorithm, kid, key) in [
        (Algorithm::EdDSA, "ed", &ed(1)),
        (Algorithm::ES256, "ec", &ec()),
        (Algorithm::RS256, "rsa", &rsa),
        (Algorithm::HS256, "shared", &shared),
    ] {
        let answer = ask_as(&app, &sign(algorithm, kid, key)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{kid}: {answer:?}");
    }

    // What of a public key an attacker knows, used as a shared secret.
    let known = public("rsa", &rsa, Algorithm::RS256);
    let modulus = URL_SAFE_NO_PAD.decode(known["n"].as_str().unwrap()).unwrap();
    let point =
        URL_SAFE_NO_PAD.decode(public("ed", &ed(1), Algorithm::EdDSA)["x"].as_str().unwrap()).unwrap();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&modulus));
    let own = SECRET.as_bytes();
    let hs = |kid: &str| json!({ "alg": "HS256", "kid": kid });
    let mut ours = claims();
    ours["iss"] = "galley".into();
    let jwk = public("ed", &ed(2), Algorithm::EdDSA);
    let smuggled = |name: &str, value: Value| {
        let mut head = json!({ "alg": "HS256" });
        head[name] = value;
        with_head(&head, &ours, own)
    };
    let mut embedded = Header::new(Algorithm::EdDSA);
    embedded.jwk = Some(serde_json::from_value(jwk.clone()).unwrap());
    let bad = [
        ("RSA modulus as a secret", with_head(&hs("rsa"), &claims(), &modulus)),
        ("RSA key file as a secret", with_head(&hs("rsa"), &claims(), pem.as_bytes())),
        ("Ed25519 point as a secret", with_head(&hs("ed"), &claims(), &point)),
        ("a kid, the deployment's secret", with_head(&hs("shared"), &ours, own)),
        ("a shared key, no kid", with_head(&json!({ "alg": "HS256" }), &claims(), &[7; 32])),
        ("another Ed25519 key", sign(Algorithm::EdDSA, "ed", &ed(2))),
        ("its kid, another key", sign(Algorithm::EdDSA, "ec", &ed(1))),
        ("unknown kid", sign(Algorithm::EdDSA, "nobody", &ed(1))),
        ("empty kid", with_head(&hs(""), &ours, own)),
        ("long kid", with_head(&hs(&"k".repeat(300)), &ours, own)),
        ("kid is a path", with_head(&hs("../../../../dev/null"), &ours, b"")),
        ("kid is SQL", with_head(&hs("x' UNION SELECT 'secret"), &ours, b"secret")),
        ("kid is a list", with_head(&json!({ "alg": "HS256", "kid": ["shared"] }), &claims(), &[7; 32])),
        ("kid is a number", with_head(&json!({ "alg": "HS256", "kid": 0 }), &ours, own)),
        ("alg in other letters", with_head(&json!({ "alg": "hs256" }), &ours, own)),
        ("alg twice", {
            let good = with_head(&json!({ "alg": "HS256" }), &ours, own);
            let double = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"HS256"}"#);
            format!("{double}.{}", good.split_once('.').unwrap().1)
        }),
        ("its own key, signed by it", jsonwebtoken::encode(&embedded, &claims(), &ed(2)).unwrap()),
        ("its own key", smuggled("jwk", jwk)),
        ("a URL of keys", smuggled("jku", "https://evil.example/keys".into())),
        ("a URL of certificates", smuggled("x5u", "https://evil.example/cert".into())),
        ("certificates", smuggled("x5c", json!(["MIIB"]))),
        ("a critical extension", smuggled("crit", json!(["exp"]))),
        ("an unencoded payload", smuggled("b64", json!(false))),
        // A key vouches for its own issuer alone.
        ("the deployment's issuer under another's key", {
            jsonwebtoken::encode(&head(Algorithm::EdDSA, "ed"), &ours, &ed(1)).unwrap()
        }),
        ("another's issuer under the deployment's secret", {
            with_head(&json!({ "alg": "HS256" }), &claims(), own)
        }),
        ("oversized", {
            let mut large = ours.clone();
            large["more"] = "x".repeat(9_000).into();
            with_head(&json!({ "alg": "HS256" }), &large, own)
        }),
    ];
    assert_eq!(
        ask_as(&app, &with_head(&json!({ "alg": "HS256" }), &ours, own)).await.status,
        StatusCode::BAD_REQUEST
    );
    let mut bodies = Vec::new();
    for (name, token) in bad {
        let mut answer = ask_as(&app, &token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        answer.body.as_object_mut().unwrap().remove("instance");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "a 401 tells bad tokens apart: {bodies:?}");
}

/// An identity provider's user cannot write himself a token of the deployment.
#[tokio::test]
async fn only_the_secret_opens_the_deployment() {
    let keys = KeySet::parse(&key_file()).unwrap();
    let app = app_with(AuthConfig { keys, rules: rules(), ..AuthConfig::default() });
    let mut wide = claims();
    wide["deployment"] = true.into();
    let foreign = jsonwebtoken::encode(&head(Algorithm::EdDSA, "ed"), &wide, &ed(1)).unwrap();
    wide["iss"] = "galley".into();
    let own = with_head(&json!({ "alg": "HS256" }), &wide, SECRET.as_bytes());
    for (token, expected) in [(foreign, StatusCode::FORBIDDEN), (own, StatusCode::UNPROCESSABLE_ENTITY)] {
        let request = request("POST", "/v1/workspaces")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        assert_eq!(ask_of(&app, request.body(Body::from("{}")).unwrap()).await.status, expected);
    }
}

/// What a URL of keys answers.
struct Provider {
    asked: AtomicUsize,
    answer: std::sync::Mutex<(StatusCode, String)>,
}

impl Provider {
    /// Answers on a port of its own; its URL.
    async fn serve(self: &Arc<Self>) -> String {
        let this = Arc::clone(self);
        let answer = move || {
            this.asked.fetch_add(1, Ordering::Relaxed);
            let (status, body) = this.answer.lock().unwrap().clone();
            std::future::ready((status, [(header::LOCATION, "/keys?again")], body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/keys", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn says(&self, status: StatusCode, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn set_of(keys: &[(&str, u8)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(kid, seed)| public(kid, &ed(*seed), Algorithm::EdDSA)).collect();
    json!({ "keys": keys }).to_string()
}

#[tokio::test]
async fn a_url_of_keys_is_kept_asked_rarely_and_believed_within_bounds() {
    let provider = Arc::new(Provider { asked: AtomicUsize::new(0), answer: std::sync::Mutex::default() });
    provider.says(StatusCode::OK, set_of(&[("a", 1)]));
    let url = provider.serve().await;
    let auth = |jwks_pause| AuthConfig {
        jwks_url: Some(url.clone()),
        jwks_pause,
        rules: rules(),
        ..AuthConfig::default()
    };
    let gets_in = async |app: &axum::Router, kid: &str, seed: u8| {
        ask_as(app, &sign(Algorithm::EdDSA, kid, &ed(seed))).await.status == StatusCode::BAD_REQUEST
    };

    // Asked once, although many come at the same time, and never again within
    // the pause, whatever they name.
    let patient = app_with(auth(Duration::from_secs(3_600)));
    let many = (0..20).map(|_| gets_in(&patient, "a", 1));
    assert!(futures::future::join_all(many).await.into_iter().all(|good| good));
    for kid in ["b", "c", "d"] {
        assert!(!gets_in(&patient, kid, 2).await);
    }
    assert_eq!(provider.asked(), 1);

    // A key that comes later is found, one that went away ends to hold.
    let hasty = app_with(auth(Duration::ZERO));
    assert!(gets_in(&hasty, "a", 1).await && !gets_in(&hasty, "a", 2).await);
    provider.says(StatusCode::OK, set_of(&[("b", 2)]));
    assert!(gets_in(&hasty, "b", 2).await && !gets_in(&hasty, "a", 1).await);

    // Whatever else it says, the keys that are known stay.
    let large =
        set_of(&[("c", 3)]).replace("{\"keys\"", &format!("{{\"pad\":\"{}\",\"keys\"", "x".repeat(200_000)));
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, set_of(&[("c", 3)])),
        // Where it points to would answer with the key.
        (StatusCode::FOUND, set_of(&[("c", 3)])),
        (StatusCode::OK, large),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, json!({ "keys": [] }).to_string()),
        (StatusCode::OK, set_of(&[("c", 3), ("c", 4)])),
    ] {
        let before = provider.asked();
        provider.says(status, body.clone());
        assert!(!gets_in(&hasty, "c", 3).await, "{status} {}", &body[..40.min(body.len())]);
        assert_eq!(provider.asked(), before + 1, "{status}: a redirect is not followed");
        assert!(gets_in(&hasty, "b", 2).await, "{status}");
    }
}

#[tokio::test]
async fn without_keys_a_named_one_is_unknown() {
    let answer = ask_as(&app(), &sign(Algorithm::EdDSA, "ed", &ed(1))).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
