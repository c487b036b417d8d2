//! Page cursors: opaque to the caller, bound to the list, workspace and filter
//! they were made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galley_core::hash;
use galley_core::ids::WorkspaceId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// The version this release writes and reads.
const VERSION: u8 = 1;

/// Longest cursor that is looked at, in bytes.
const MAX_BYTES: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<P> {
    v: u8,
    /// What it is bound to.
    b: String,
    /// The last item of the page before.
    p: P,
}

/// Why a cursor is refused, for whoever sent it.
#[derive(Debug)]
pub struct BadCursor(&'static str);

impl From<BadCursor> for ApiError {
    fn from(bad: BadCursor) -> Self {
        Self::malformed("cursor", bad.0)
    }
}

/// What the cursors of one list are bound to.
#[derive(Debug)]
pub struct Binding(String);

impl Binding {
    /// `filter` is everything of the query that chooses items; not the limit,
    /// which may change from page to page.
    pub fn new(list: &str, workspace: WorkspaceId, filter: &impl Serialize) -> Self {
        let hash = hash::of_json(&(list, workspace, filter));
        Self(URL_SAFE_NO_PAD.encode(&hash[..12]))
    }

    /// The cursor behind an item.
    pub(crate) fn seal<P: Serialize>(&self, position: P) -> Result<String, ApiError> {
        let wire = Wire { v: VERSION, b: self.0.clone(), p: position };
        let json = serde_json::to_vec(&wire)
            .map_err(|error| ApiError::internal(format!("a cursor does not serialize: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode(json))
    }

    /// Where a cursor points.
    ///
    /// # Errors
    /// It was made by nobody, by another release, or for another list.
    pub fn open<P: DeserializeOwned>(&self, cursor: Option<&str>) -> Result<Option<P>, BadCursor> {
        let Some(cursor) = cursor else { return Ok(None) };
        let unreadable = || BadCursor("not a cursor of this release; begin again without one");
        if cursor.len() > MAX_BYTES {
            return Err(unreadable());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| unreadable())?;
        let wire: Wire<serde_json::Value> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
        if wire.v != VERSION {
            return Err(unreadable());
        }
        if wire.b != self.0 {
            return Err(BadCursor(
                "it belongs to another list, workspace or filter; begin again without one",
            ));
        }
        serde_json::from_value(wire.p).map(Some).map_err(|_| unreadable())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId(Uuid::from_u128(n))
    }

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let binding = Binding::new("workflows", workspace(1), &("running",));
        let cursor = binding.seal(7_u16).unwrap();
        assert_eq!(binding.open::<u16>(Some(&cursor)).unwrap(), Some(7));
        assert_eq!(binding.open::<u16>(None).unwrap(), None);
        for other in [
            Binding::new("tasks", workspace(1), &("running",)),
            Binding::new("workflows", workspace(2), &("running",)),
            Binding::new("workflows", workspace(1), &("failed",)),
        ] {
            assert!(other.open::<u16>(Some(&cursor)).is_err());
        }
    }

    #[test]
    fn a_tampered_cursor_is_refused() {
        let binding = Binding::new("workflows", workspace(1), &());
        let cursor = binding.seal(7_u16).unwrap();
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
        let seal = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for bad in [
            String::new(),
            "%%%".into(),
            cursor[1..].to_owned(),
            "A".repeat(10_000),
            seal("[]"),
            seal(&json.replace(r#""v":1"#, r#""v":2"#)),
            seal(&json.replace(r#""p":7"#, r#""p":"seven""#)),
            seal(&json.replace(r#""p":7"#, r#""p":7,"q":8"#)),
        ] {
            assert!(binding.open::<u16>(Some(&bad)).is_err(), "{bad}");
        }
    }
}
