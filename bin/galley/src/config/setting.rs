//! What a setting's text can mean: one way to read a value, whether it came
//! from a file, the environment or a flag.

use std::net::SocketAddr;
use std::path::PathBuf;

use galley_agents::{Fault, Rubbish};
use galley_core::ids::AgentType;
use secrecy::SecretString;
use serde_json::Value;

/// A value that is read from text.
pub(crate) trait Setting: Sized {
    /// Whether an error may quote the text.
    const SECRET: bool = false;

    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    fn read(text: &str) -> Result<Self, String>;
}

/// An address to listen on, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

/// Agent types, as a list; empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agents(pub(crate) Vec<AgentType>);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For a person.
    Human,
    /// One JSON object per line.
    Json,
}

impl Setting for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Setting for SecretString {
    const SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Setting for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("write `true` or `false`".into()),
        }
    }
}

macro_rules! counts {
    ($($Type:ty),+) => {
        $(impl Setting for $Type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse::<$Type>()
                    .map_err(|_| format!("write a whole number up to {}", <$Type>::MAX))
            }
        })+
    };
}
counts!(u32, u64, usize);

impl Setting for Address {
    fn read(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            "write an IP address and a port such as 127.0.0.1:8080 or 0.0.0.0:8080, or `off`".into()
        })
    }
}

impl Setting for Agents {
    fn read(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| AgentType::new(name).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Setting for LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("write `human` or `json`".into()),
        }
    }
}

impl Setting for Fault {
    fn read(text: &str) -> Result<Self, String> {
        serde_json::from_value(Value::from(text))
            .map_err(|_| "write `transient`, `permanent` or `throttled`".into())
    }
}

impl Setting for Rubbish {
    fn read(text: &str) -> Result<Self, String> {
        let value = text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from);
        Self::try_from(value).map_err(|_| "write `true`, `false` or `once`".into())
    }
}

impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
}
