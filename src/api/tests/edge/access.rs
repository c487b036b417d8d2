//! Who gets in, and how far.

use axum::body::Body;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galley_api::views::Role;
use galley_api::{AuthConfig, NewToken, Signer, TokenError, TokenRules, openapi};
use galley_engine::store::KeyHash;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    Known, SECRET, app, app_knowing, app_with, ask, ask_of, request, signer, token, token_of, workspace,
};

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub(crate) fn good_claims() -> Value {
    json!({
        "sub": "somebody", "workspace": workspace(), "roles": ["admin"],
        "iss": "galley", "aud": "galley", "iat": now(), "nbf": now(), "exp": now() + 60,
    })
}

fn sign(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .unwrap()
}

fn with(field: &str, value: Value) -> String {
    let mut claims = good_claims();
    claims[field] = value;
    sign(Algorithm::HS256, &claims, SECRET)
}

fn without(field: &str) -> String {
    let mut claims = good_claims();
    claims.as_object_mut().unwrap().remove(field);
    sign(Algorithm::HS256, &claims, SECRET)
}

/// A token that says it needs no signature.
fn unsigned(signature: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(json!({ "alg": "none", "typ": "JWT" })), part(good_claims()))
}

/// A good token with one character of its payload changed.
fn tampered() -> String {
    let good = token(&[Role::Auditor]);
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(good_claims().to_string()))
}

#[tokio::test]
async fn only_a_good_token_gets_in_and_a_bad_one_hears_nothing() {
    let bearer = |token: &str| format!("Bearer {token}");
    let bad = [
        ("none", None),
        ("empty", Some(String::new())),
        ("another scheme", Some(format!("Basic {}", token(&[Role::Admin])))),
        ("garbage", Some(bearer("garbage"))),
        ("three parts of garbage", Some(bearer("a.b.c"))),
        ("another secret", Some(bearer(&sign(Algorithm::HS256, &good_claims(), &"x".repeat(32))))),
        ("HS384", Some(bearer(&sign(Algorithm::HS384, &good_claims(), SECRET)))),
        ("HS512", Some(bearer(&sign(Algorithm::HS512, &good_claims(), SECRET)))),
        ("alg none", Some(bearer(&unsigned("")))),
        ("alg none, some signature", Some(bearer(&unsigned("c2ln")))),
        ("tampered", Some(bearer(&tampered()))),
        ("expired", Some(bearer(&with("exp", json!(now() - 31))))),
        ("not yet", Some(bearer(&with("nbf", json!(now() + 120))))),
        ("another audience", Some(bearer(&with("aud", json!("other"))))),
        ("another issuer", Some(bearer(&with("iss", json!("other"))))),
        ("no workspace id", Some(bearer(&with("workspace", json!("all"))))),
        ("empty subject", Some(bearer(&with("sub", json!(""))))),
        ("subject with a line break", Some(bearer(&with("sub", json!("a\nb"))))),
        ("expires at a text", Some(bearer(&with("exp", json!((now() + 60).to_string()))))),
        ("begins at a text", Some(bearer(&with("nbf", json!("2020-01-01T00:00:00Z"))))),
        ("expires at half a second", Some(bearer(&with("exp", json!(now() as f64 + 60.5))))),
        ("expires at a huge number", Some(bearer(&with("exp", json!(1e30))))),
        ("begins before all time", Some(bearer(&with("nbf", json!(-1))))),
        ("expires never", Some(bearer(&with("exp", Value::Null)))),
        ("holds too long", Some(bearer(&with("exp", json!(now() + 366 * 86_400))))),
        ("was issued too long ago", Some(bearer(&with("iat", json!(now() - 366 * 86_400))))),
        ("deployment is a text", Some(bearer(&with("deployment", json!("yes"))))),
        ("empty id", Some(bearer(&with("jti", json!(""))))),
        ("two tokens in one", Some(format!("Bearer {} {}", token(&[Role::Admin]), token(&[Role::Admin])))),
        ("a good signature cut", Some(bearer(token(&[Role::Admin]).strip_suffix(|_| true).unwrap()))),
        ("four parts", Some(bearer(&format!("{}.a", token(&[Role::Admin]))))),
        ("no exp", Some(bearer(&without("exp")))),
        ("no nbf", Some(bearer(&without("nbf")))),
        ("no iss", Some(bearer(&without("iss")))),
        ("no aud", Some(bearer(&without("aud")))),
        ("no sub", Some(bearer(&without("sub")))),
        ("no workspace", Some(bearer(&without("workspace")))),
        ("no roles", Some(bearer(&without("roles")))),
    ];
    let app = app();
    let mut heard = Vec::new();
    for (name, header) in bad {
        let mut request = request("GET", "/v1/tasks?limit=0");
        if let Some(header) = header {
            request = request.header(header::AUTHORIZATION, header);
        }
        let answer = ask_of(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer", "{name}");
        assert_eq!(answer.problem().status, 401);
        let mut body = answer.body;
        body.as_object_mut().unwrap().remove("instance");
        heard.push(body);
    }
    heard.dedup();
    assert_eq!(heard.len(), 1, "a 401 tells bad tokens apart: {heard:?}");
}

#[tokio::test]
async fn clocks_may_differ_by_half_a_minute() {
    for token in [with("exp", json!(now() - 10)), with("nbf", json!(now() + 10))] {
        // The limit is refused: the request came through to the handler.
        let request =
            request("GET", "/v1/tasks?limit=0").header(header::AUTHORIZATION, format!("bearer {token}"));
        let answer = ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

/// Every route of the description asks for a token, except three, and lets
/// nobody in who has no role.
#[tokio::test]
async fn every_route_is_closed() {
    let api = serde_json::to_value(openapi()).unwrap();
    let nobody = with("roles", json!(["captain"]));
    let app = app();
    let mut closed = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if ["/health", "/ready"].contains(&path.as_str()) {
                continue;
            }
            closed += 1;
            let path = path.replace(['{', '}'], "x");
            let request = |token: Option<&str>| {
                let mut request = request(&method.to_uppercase(), &path);
                if let Some(token) = token {
                    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
                }
                request.body(Body::empty()).unwrap()
            };
            assert_eq!(ask_of(&app, request(None)).await.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            let answer = ask_of(&app, request(Some(&nobody))).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            assert_eq!(answer.problem().kind, "urn:galley:problem:forbidden");
        }
    }
    assert!(closed > 20, "{closed} routes");
}

/// Which roles come past the permission check: each request is wrong in a way
/// that its handler finds without a store, and only its handler.
#[tokio::test]
async fn each_route_takes_the_roles_of_the_table() {
    use Role::{Admin, Approver, Auditor, Operator, Producer};
    let everybody: &[Role] = &Role::ALL;
    let routes: &[(&str, &str, &[Role])] = &[
        ("GET", "/v1/workflows?limit=0", everybody),
        ("GET", "/v1/workflows/x", everybody),
        ("GET", "/v1/workflows/x/events", everybody),
        ("GET", "/v1/workflows/x/messages", everybody),
        ("GET", "/v1/workflows/x/messages/live", everybody),
        ("GET", "/v1/workflows/x/context", everybody),
        ("GET", "/v1/communication?since=x", everybody),
        ("GET", "/v1/tasks?limit=0", everybody),
        ("GET", "/v1/tasks/x", everybody),
        ("GET", "/v1/dead-letters?limit=0", everybody),
        ("GET", "/v1/dead-letters/x", everybody),
        ("GET", "/v1/why/X", everybody),
        ("POST", "/v1/workflows", &[Producer, Operator, Admin]),
        ("POST", "/v1/workflows/x/cancel", &[Producer, Operator, Admin]),
        ("POST", "/v1/templates", &[Producer, Operator, Admin]),
        ("POST", "/v1/dead-letters/x/retry", &[Operator, Admin]),
        ("POST", "/v1/dead-letters/x/discard", &[Operator, Admin]),
        ("POST", "/v1/dead-letters/retry", &[Operator, Admin]),
        ("POST", "/v1/dead-letters/discard", &[Operator, Admin]),
        ("POST", "/v1/tokens", &[Admin]),
        ("POST", "/v1/tokens/revoke", &[Admin]),
        ("POST", "/v1/keys", &[Admin]),
        ("GET", "/v1/audit?limit=0", &[Auditor, Admin]),
        ("GET", "/v1/posts?limit=0", everybody),
        ("GET", "/v1/posts/x", everybody),
        ("PUT", "/v1/posts/x", &[Producer, Approver, Admin]),
        ("POST", "/v1/posts/x/reschedule", &[Producer, Approver, Admin]),
        ("POST", "/v1/posts/x/reject", &[Approver, Admin]),
        ("POST", "/v1/posts/x/resolve", &[Approver, Operator, Admin]),
        ("GET", "/v1/approvals?limit=0", everybody),
        ("GET", "/v1/approvals/x", everybody),
        ("POST", "/v1/approvals/x/approve", &[Approver, Admin]),
        ("POST", "/v1/approvals/x/reject", &[Approver, Admin]),
        ("POST", "/v1/approvals/x/edit", &[Approver, Admin]),
        ("PUT", "/v1/automation", &[Admin]),
        ("POST", "/v1/accounts", &[Operator, Admin]),
        ("POST", "/v1/accounts/X/test", &[Operator, Admin]),
        ("DELETE", "/v1/accounts/X", &[Operator, Admin]),
        ("GET", "/v1/schedules?limit=0", everybody),
        ("GET", "/v1/schedules/X", everybody),
        ("POST", "/v1/schedules", &[Producer, Operator, Admin]),
        ("PUT", "/v1/schedules/X", &[Producer, Operator, Admin]),
        ("DELETE", "/v1/schedules/X", &[Producer, Operator, Admin]),
        ("POST", "/v1/schedules/X/pause", &[Producer, Operator, Admin]),
        ("POST", "/v1/schedules/X/resume", &[Producer, Operator, Admin]),
        ("POST", "/v1/schedules/X/run", &[Producer, Operator, Admin]),
    ];
    // What reaches beyond a workspace takes a token of the deployment, too.
    let wide: &[(&str, &str, &[Role])] = &[
        ("POST", "/v1/queues/X/pause", &[Operator, Admin]),
        ("POST", "/v1/queues/X/resume", &[Operator, Admin]),
        ("POST", "/v1/queues/X/limit", &[Operator, Admin]),
        ("POST", "/v1/workspaces", &[Admin]),
    ];
    let app = app();
    let nobody: &[Role] = &[];
    let routes = routes.iter().map(|(method, path, allowed)| (*method, *path, *allowed, false));
    let narrow = wide.iter().map(|(method, path, _)| (*method, *path, nobody, false));
    let wide = wide.iter().map(|(method, path, allowed)| (*method, *path, *allowed, true));
    for (method, path, allowed, deployment) in routes.chain(narrow).chain(wide) {
        for role in [Producer, Approver, Operator, Auditor, Admin] {
            let request = request(method, path)
                .header(header::AUTHORIZATION, format!("Bearer {}", token_of(&[role], deployment)))
                .header(header::CONTENT_TYPE, "application/json")
                .body(if ["POST", "PUT"].contains(&method) { Body::from("{}") } else { Body::empty() });
            let status = ask_of(&app, request.unwrap()).await.status;
            if allowed.contains(&role) {
                let wrong = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY];
                assert!(wrong.contains(&status), "{role} {method} {path}: {status}");
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{role} {method} {path}");
            }
        }
    }
}

/// An edit that approves itself is an approval, whatever its route is called.
#[tokio::test]
async fn approving_along_with_an_edit_takes_the_right_to_approve() {
    let app = app();
    for (approve, role, expected) in [
        (true, Role::Producer, StatusCode::FORBIDDEN),
        // Let through, to the id that is none.
        (false, Role::Producer, StatusCode::BAD_REQUEST),
        (true, Role::Approver, StatusCode::BAD_REQUEST),
    ] {
        let request = request("PUT", "/v1/posts/x")
            .header(header::AUTHORIZATION, format!("Bearer {}", token(&[role])))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(json!({ "text": "hello", "approve": approve }).to_string()));
        let answer = ask_of(&app, request.unwrap()).await;
        assert_eq!(answer.status, expected, "{role}, approve: {approve}");
    }
}

#[test]
fn a_bad_wish_makes_no_token() {
    let good = NewToken {
        workspace: workspace(),
        subject: "a".into(),
        roles: vec![Role::Producer],
        ttl: Duration::from_secs(1),
        deployment: false,
    };
    assert!(signer().issue(&good).is_ok());
    let refused = |new: NewToken| match signer().issue(&new) {
        Err(TokenError::Invalid { at, .. }) => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(NewToken { subject: String::new(), ..good.clone() }), "subject");
    assert_eq!(refused(NewToken { roles: vec![], ..good.clone() }), "roles");
    assert_eq!(refused(NewToken { ttl: Duration::from_millis(999), ..good.clone() }), "ttlSeconds");
    assert_eq!(refused(NewToken { ttl: Duration::MAX, ..good }), "ttlSeconds");
    let weak = Signer::new(&SecretString::from("x".repeat(31)), TokenRules::default());
    assert_eq!(weak.err(), Some(TokenError::WeakSecret));
}

#[test]
fn keys_and_tokens_do_not_print() {
    assert!(!format!("{:?}", signer()).contains("secret"));
    let new = NewToken {
        workspace: workspace(),
        subject: "a".into(),
        roles: vec![Role::Producer],
        ttl: Duration::from_secs(60),
        deployment: false,
    };
    let issued = signer().issue(&new).unwrap();
    assert!(!format!("{issued:?}").contains(&issued.token));
}

/// A token of a workspace stays in it, whatever its role.
#[tokio::test]
async fn a_workspaces_admin_is_not_the_deployments() {
    let app = app();
    let wish = json!({ "subject": "a", "roles": ["admin"], "workspaceId": uuid::Uuid::from_u128(7) });
    let wider = json!({ "subject": "a", "roles": ["admin"], "deployment": true });
    for (body, expected) in [(wish, StatusCode::NOT_FOUND), (wider, StatusCode::FORBIDDEN)] {
        let ask = |token: String| {
            request("POST", "/v1/tokens")
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string()))
                .unwrap()
        };
        assert_eq!(ask_of(&app, ask(token(&[Role::Admin]))).await.status, expected, "{body}");
        // Let through, to the store, which is away.
        let through = ask_of(&app, ask(token_of(&[Role::Admin], true))).await.status;
        assert_eq!(through, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    }
}

/// Another deployment's name and bound.
#[tokio::test]
async fn the_audience_and_the_longest_lifetime_are_the_deployments() {
    let rules = TokenRules {
        audience: "galley-staging".into(),
        max_lifetime: Duration::from_secs(86_400),
        ..TokenRules::default()
    };
    let app = app_with(AuthConfig { rules: rules.clone(), ..AuthConfig::default() });
    let signer = Signer::new(&SecretString::from(SECRET), rules).unwrap();
    let new = |ttl| NewToken {
        workspace: workspace(),
        subject: "a".into(),
        roles: vec![Role::Admin],
        ttl: Duration::from_secs(ttl),
        deployment: false,
    };
    assert!(signer.issue(&new(86_401)).is_err());
    let good = signer.issue(&new(86_400)).unwrap().token;
    for (token, expected) in
        [(good, StatusCode::BAD_REQUEST), (token(&[Role::Admin]), StatusCode::UNAUTHORIZED)]
    {
        let request =
            request("GET", "/v1/tasks?limit=0").header(header::AUTHORIZATION, format!("Bearer {token}"));
        assert_eq!(ask_of(&app, request.body(Body::empty()).unwrap()).await.status, expected);
    }
}

/// What was revoked is refused like any other token, and nothing else is.
#[tokio::test]
async fn a_token_that_ended_early_is_refused() {
    let with = |field: &str, value: Value| {
        let mut claims = good_claims();
        claims["jti"] = "one".into();
        claims[field] = value;
        sign(Algorithm::HS256, &claims, SECRET)
    };
    let known = Arc::new(Known::default());
    let app = app_knowing(AuthConfig::default(), known.clone());
    {
        let mut revocations = known.revocations.lock().unwrap();
        revocations.tokens.insert("stolen".into());
        revocations.subjects.insert("left".into(), now());
        revocations.subjects.insert("back".into(), now() - 10);
    }
    for (field, value, expected) in [
        ("jti", json!("stolen"), StatusCode::UNAUTHORIZED),
        ("jti", json!("other"), StatusCode::BAD_REQUEST),
        ("sub", json!("left"), StatusCode::UNAUTHORIZED),
        // Issued since.
        ("sub", json!("back"), StatusCode::BAD_REQUEST),
    ] {
        let request = request("GET", "/v1/tasks?limit=0")
            .header(header::AUTHORIZATION, format!("Bearer {}", with(field, value.clone())));
        let answer = ask_of(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, expected, "{field} {value}");
        if expected == StatusCode::UNAUTHORIZED {
            let nobody = ask_of(&app, self::request("GET", "/v1/tasks").body(Body::empty()).unwrap()).await;
            assert_eq!(answer.problem().detail, nobody.problem().detail);
        }
    }
    // An erased workspace: none of its tokens, whoever has it.
    known.revocations.lock().unwrap().all = true;
    let app = app_knowing(AuthConfig::default(), known);
    let request = request("GET", "/v1/tasks?limit=0")
        .header(header::AUTHORIZATION, format!("Bearer {}", with("jti", json!("other"))));
    let answer = ask_of(&app, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

/// A key opens its workspace, in its roles, and makes no other way in.
#[tokio::test]
async fn a_key_gets_in_by_its_secret_alone() {
    let secret = "5a".repeat(32);
    let hash = |secret: &str| Sha256::digest(secret).to_vec();
    let key = |roles: &[&str], valid| KeyHash {
        workspace: workspace(),
        hash: hash(&secret),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        valid,
    };
    let known = Arc::new(Known::default());
    known.keys.lock().unwrap().extend([
        ("000000000001".to_owned(), key(&["producer"], true)),
        ("000000000002".to_owned(), key(&["admin"], true)),
        ("000000000003".to_owned(), key(&["admin"], false)),
    ]);
    let app = app_knowing(AuthConfig::default(), known);
    let (bad, unauthorized, forbidden) =
        (StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN);
    let other = "5b".repeat(32);
    for (method, path, bearer, expected) in [
        ("GET", "/v1/tasks?limit=0", format!("glk_000000000001_{secret}"), bad),
        ("GET", "/v1/audit?limit=0", format!("glk_000000000001_{secret}"), forbidden),
        ("GET", "/v1/audit?limit=0", format!("glk_000000000002_{secret}"), bad),
        ("POST", "/v1/tokens", format!("glk_000000000002_{secret}"), forbidden),
        ("POST", "/v1/keys", format!("glk_000000000002_{secret}"), forbidden),
        ("DELETE", "/v1/keys/000000000001", format!("glk_000000000002_{secret}"), forbidden),
        ("GET", "/v1/tasks?limit=0", format!("glk_000000000001_{other}"), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("glk_000000000003_{secret}"), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("glk_000000000004_{secret}"), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("glk_000000000001_{}", &secret[..62]), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("GLK_000000000001_{secret}"), unauthorized),
        ("GET", "/v1/tasks?limit=0", "glk_000000000001_".into(), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("glk__{secret}"), unauthorized),
        ("GET", "/v1/tasks?limit=0", format!("glk_' OR 1=1 --_{secret}"), unauthorized),
    ] {
        let request = request(method, path).header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        let status = ask_of(&app, request.body(Body::empty()).unwrap()).await.status;
        assert_eq!(status, expected, "{method} {path} {bearer}");
    }
    // Nobody takes a key's name for a token.
    let named = sign(
        Algorithm::HS256,
        &{
            let mut claims = good_claims();
            claims["sub"] = "key:000000000001".into();
            claims
        },
        SECRET,
    );
    let request =
        request("GET", "/v1/tasks?limit=0").header(header::AUTHORIZATION, format!("Bearer {named}"));
    assert_eq!(ask_of(&app, request.body(Body::empty()).unwrap()).await.status, unauthorized);
}
