//! Accounts of the network: who may publish, and the requests about them.

use std::{fmt, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{answer::ApiError, error::Invalid, fields, network::App, read};

/// An account to create when the network starts.
///
/// If the data file knows the handle already, the account keeps its id and its
/// posts, and takes this name and this token.
#[derive(Clone)]
pub struct SeedAccount {
    /// Its handle, 1 to 32 of `a-z 0-9 - _ .`.
    pub handle: String,
    /// Its name as people read it, 1 to 64 characters.
    pub display_name: String,
    /// Its token, 8 to 200 visible ASCII characters.
    pub token: String,
}

/// An account with its token, as its creator gets it, once.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its id, `a_` and ten characters.
    pub id: String,
    /// Its handle.
    pub handle: String,
    /// Its name as people read it.
    pub display_name: String,
    /// Its token: `Authorization: Bearer …`.
    pub token: String,
}

// Tokens do not belong in logs, not even those of a toy.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// An account in memory and as a line of the data file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) display_name: String,
    pub(crate) token: String,
    pub(crate) since: Timestamp,
    /// Posts so far, evicted ones too; counted, not stored.
    #[serde(skip)]
    pub(crate) posts: u64,
}

impl Member {
    pub(crate) fn account(&self) -> Account {
        Account {
            id: self.id.clone(),
            handle: self.handle.clone(),
            display_name: self.display_name.clone(),
            token: self.token.clone(),
        }
    }

    /// What everybody may know of it.
    fn shown(&self) -> serde_json::Value {
        json!({
            "id": self.id,
            "handle": self.handle,
            "displayName": self.display_name,
            "posts": self.posts,
        })
    }
}

/// The handle of the account whose token the request has.
pub(crate) fn caller(app: &App, headers: &HeaderMap) -> Result<String, ApiError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(ApiError::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::unauthorized());
    }
    let platform = app.platform();
    platform
        .member_by_token(token.trim())
        .map(|member| member.handle.clone())
        .ok_or_else(ApiError::unauthorized)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    handle: String,
    display_name: String,
}

/// Both texts, checked.
pub(crate) fn check(handle: &str, display_name: &str) -> Result<(), Invalid> {
    fields::handle(handle)?;
    fields::display_name(display_name)
}

/// `POST /api/accounts`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted: Wanted = read::json(&headers, body).await?;
    let account = app.platform().add_account(&wanted.handle, &wanted.display_name)?;
    Ok((StatusCode::CREATED, Json(account)).into_response())
}

/// `GET /api/accounts`
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let platform = app.platform();
    let accounts: Vec<_> = platform.members().map(Member::shown).collect();
    Json(json!({ "accounts": accounts })).into_response()
}

/// `GET /api/me`
pub(crate) async fn me(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let handle = caller(&app, &headers)?;
    let platform = app.platform();
    let member = platform.member(&handle).ok_or_else(ApiError::unauthorized)?;
    Ok(Json(member.shown()).into_response())
}
