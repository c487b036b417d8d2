//! What models cost: a price list as data, built in, overridden line by line by
//! a deployment's own.

use std::collections::BTreeMap;
use std::path::Path;

use galley_core::money::Price;
use serde::Deserialize;

use crate::definition::LoadError;

/// The file's name, in `agents/` and in a deployment's folder.
pub(crate) const FILE: &str = "models.toml";

/// Most completion tokens of a model whose line does not say.
const MOST_OUTPUT: u32 = 16_384;

/// Dollars per million tokens, as people write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    input: f64,
    #[serde(default)]
    cached: Option<f64>,
    output: f64,
    #[serde(default)]
    max_output: Option<u32>,
}

/// Prices by `provider:model`, and by `provider:*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices(BTreeMap<String, Price>);

impl Prices {
    /// The list embedded in the binary.
    ///
    /// # Errors
    /// None for the file of this repository: a test loads it.
    pub fn built_in() -> Result<Self, LoadError> {
        Self::parse(&format!("agents/{FILE}"), include_str!("../../agents/models.toml"))
    }

    /// With the lines of a folder's own list, if it has one.
    ///
    /// # Errors
    /// The list cannot be read; nothing is half-loaded.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(FILE);
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => self.0.extend(Self::parse(&file, &text)?.0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(LoadError {
                    file,
                    at: "file".into(),
                    what: error.to_string(),
                    hint: "check the path and its permissions".into(),
                });
            }
        }
        Ok(self)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let wrong = |at: &str, what: String| LoadError {
            file: file.to_owned(),
            at: at.to_owned(),
            what,
            hint: "write dollars per million tokens, as in agents/models.toml".into(),
        };
        let lines: BTreeMap<String, Line> =
            toml::from_str(text).map_err(|error| wrong("file", error.message().to_owned()))?;
        let mut prices = BTreeMap::new();
        for (name, line) in lines {
            if !name
                .split_once(':')
                .is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
            {
                return Err(wrong(&name, "the name is not `provider:model`".into()));
            }
            let price = |key: &str, dollars: f64| match dollars {
                // A million dollars for a million tokens is a slip of the pen.
                dollars if (0.0..=1_000_000.0).contains(&dollars) => Ok((dollars * 1e6).round() as u64),
                _ => Err(wrong(&name, format!("{key}: {dollars} is no price"))),
            };
            let read = Price {
                input: price("input", line.input)?,
                cached: line.cached.map(|cached| price("cached", cached)).transpose()?,
                output: price("output", line.output)?,
                max_output: line.max_output.unwrap_or(MOST_OUTPUT),
            };
            if read.max_output == 0 {
                return Err(wrong(&name, "max_output: 0 leaves no room for an answer".into()));
            }
            prices.insert(name, read);
        }
        Ok(Self(prices))
    }

    /// A model's price; `None`: nobody has said.
    pub fn of(&self, provider: &str, model: &str) -> Option<Price> {
        self.0.get(&format!("{provider}:{model}")).or_else(|| self.0.get(&format!("{provider}:*"))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_loads_and_a_line_of_its_own_wins() {
        let prices = Prices::built_in().unwrap();
        let mini = prices.of("openai", "gpt-4o-mini").unwrap();
        assert_eq!((mini.input, mini.cached, mini.output), (150_000, Some(75_000), 600_000));
        assert!(prices.of("offline", "anything").unwrap().is_free());
        assert_eq!(prices.of("openai", "unheard-of"), None);
        let own =
            Prices::parse("x", "[\"a:*\"]\ninput = 1.0\noutput = 2.0\n[\"a:b\"]\ninput = 3.0\noutput = 4.0")
                .unwrap();
        assert_eq!(own.of("a", "b").unwrap().input, 3_000_000);
        assert_eq!(own.of("a", "c").unwrap().input, 1_000_000);
    }

    #[test]
    fn what_is_no_price_is_refused_by_its_name() {
        for (text, part) in [
            ("[\"gpt\"]\ninput = 1.0\noutput = 1.0", "`provider:model`"),
            ("[\"a:b\"]\ninput = -1.0\noutput = 1.0", "input: -1"),
            ("[\"a:b\"]\ninput = nan\noutput = 1.0", "no price"),
            ("[\"a:b\"]\ninput = 1.0\noutput = 1.0\nmax_output = 0", "max_output"),
            ("[\"a:b\"]\ninput = 1.0\noutput = 1.0\ncost = 2", "unknown field"),
            ("nonsense", "expected"),
        ] {
            let error = Prices::parse("x.toml", text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
