//! What `galley doctor` wants to know about a Redis server: its version and
//! what it does when its memory is full. Asked in Redis' own words over a
//! plain connection, because the queue's face has no room for it and only the
//! queue may use the Redis crate.

use std::time::Duration;

use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a Redis server says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedisFacts {
    /// `7.0.15`.
    pub(crate) version: String,
    /// `noeviction`, `allkeys-lru`, …; absent where the server does not tell.
    pub(crate) eviction: Option<String>,
}

/// Asks the server.
///
/// # Errors
/// In words: it cannot be reached, or does not answer as Redis does. `None`
/// for addresses this does not speak (TLS, sockets).
pub(crate) async fn ask(url: &str) -> Result<Option<RedisFacts>, String> {
    let url: Url = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    if url.scheme() != "redis" {
        return Ok(None);
    }
    let address = format!("{}:{}", url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(6_379));
    let said = tokio::time::timeout(PATIENCE, converse(&address, url.username(), url.password()));
    let said = said.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    facts(&said).map(Some)
}

async fn converse(address: &str, user: &str, password: Option<&str>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut words = Vec::new();
    if let Some(password) = password {
        let mut auth = vec!["AUTH"];
        auth.extend((!user.is_empty()).then_some(user));
        auth.push(password);
        words.push(auth);
    }
    words.push(vec!["INFO", "server"]);
    // What is in force, where CONFIG is not allowed: managed servers hide it.
    words.push(vec!["INFO", "memory"]);
    words.push(vec!["QUIT"]);
    for command in words {
        stream.write_all(encoded(&command).as_bytes()).await?;
    }
    let mut said = Vec::new();
    // QUIT makes the server close the connection, which ends the reading.
    stream.read_to_end(&mut said).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn encoded(command: &[&str]) -> String {
    let words: String = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{words}", command.len())
}

fn facts(said: &str) -> Result<RedisFacts, String> {
    let field =
        |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
    match field("redis_version:") {
        Some(version) => Ok(RedisFacts { version, eviction: field("maxmemory_policy:") }),
        None => {
            let why = said.lines().find_map(|line| line.strip_prefix('-'));
            Err(why.unwrap_or("it does not answer as Redis does").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RedisFacts, encoded, facts};

    #[test]
    fn answers_are_read() {
        let said = "+OK\r\n$30\r\n# Server\r\nredis_version:7.0.15\r\n\r\n$40\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n+OK\r\n";
        let wanted = RedisFacts { version: "7.0.15".into(), eviction: Some("noeviction".into()) };
        assert_eq!(facts(said), Ok(wanted));
        assert_eq!(
            facts("-NOAUTH Authentication required.\r\n"),
            Err("NOAUTH Authentication required.".into())
        );
        assert_eq!(facts("HTTP/1.1 400\r\n"), Err("it does not answer as Redis does".into()));
    }

    #[test]
    fn a_password_with_spaces_is_one_word() {
        assert_eq!(encoded(&["AUTH", "a b"]), "*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n");
    }
}
