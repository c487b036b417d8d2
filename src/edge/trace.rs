//! The W3C trace a request belongs to, and the id it is found by in the log.

use axum::http::HeaderMap;
use uuid::Uuid;

/// The header of the request's id, in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest request id taken over from the caller.
const MAX_ID_BYTES: usize = 128;

/// The caller's request id if it is harmless in a log line and a header, or a
/// new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    given.filter(harmless).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The caller's `traceparent` if it is one, or the beginning of a new trace.
pub fn traceparent(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    given.filter(|text| is_traceparent(text)).map_or_else(new_traceparent, str::to_owned)
}

/// Version 00: `00-<32 hex>-<16 hex>-<2 hex>`, ids not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let &[version, trace, parent, flags] = parts.as_slice() else { return false };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    version == "00" && hex(trace, 32) && some(trace) && hex(parent, 16) && some(parent) && hex(flags, 2)
}

fn new_traceparent() -> String {
    // An id of all zeroes means "none".
    let (trace, parent) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
    format!("00-{trace:032x}-{parent:016x}-01")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_good_trace_is_kept_and_a_bad_one_replaced() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers("traceparent", good)), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            let made = traceparent(&headers("traceparent", bad));
            assert_ne!(made, bad);
            assert!(is_traceparent(&made), "{made}");
        }
        assert!(is_traceparent(&traceparent(&HeaderMap::new())));
    }

    #[test]
    fn a_request_id_cannot_carry_anything_but_an_id() {
        assert_eq!(request_id(&headers(REQUEST_ID, "req-1.a:b_c")), "req-1.a:b_c");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_ne!(request_id(&headers(REQUEST_ID, bad)), bad);
        }
    }
}
