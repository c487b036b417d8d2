//! What only benches, fault tests and `galley doctor` ask of a Redis server.

use ::redis::Client;

use crate::dispatch::QueueError;

fn refused(doing: &'static str) -> impl Fn(::redis::RedisError) -> QueueError {
    move |error| QueueError::Unavailable { doing, reason: error.to_string() }
}

/// Empties the whole server, as an operator's mistake would.
///
/// # Errors
/// The server does not answer.
pub async fn flush_all(url: &str) -> Result<(), QueueError> {
    let doing = "empty Redis";
    let client = Client::open(url).map_err(refused(doing))?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(refused(doing))?;
    ::redis::cmd("FLUSHALL").query_async(&mut connection).await.map_err(refused(doing))
}

/// The server's INFO, field by field.
///
/// # Errors
/// The server does not answer.
pub async fn server_info(url: &str) -> Result<Vec<(String, String)>, QueueError> {
    let doing = "ask Redis about itself";
    let client = Client::open(url).map_err(refused(doing))?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(refused(doing))?;
    let text: String = ::redis::cmd("INFO").query_async(&mut connection).await.map_err(refused(doing))?;
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Ok(text.lines().filter_map(field).collect())
}

/// Bytes the server holds.
///
/// # Errors
/// The server does not answer.
pub async fn used_memory(url: &str) -> Result<u64, QueueError> {
    let info = server_info(url).await?;
    let used = info.iter().find(|(name, _)| name == "used_memory").and_then(|(_, value)| value.parse().ok());
    used.ok_or(QueueError::Unexpected { doing: "ask Redis about itself", reason: "no used_memory".into() })
}
