//! `galley provider`: the workspace's own providers.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use galley_api::views;
use secrecy::SecretString;

use super::listed_by;
use crate::cli::{self, Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::files::input;
use crate::table::{Table, cell};
use crate::{print, time};

/// Most completion tokens of a model whose price does not say.
const MOST_OUTPUT: u32 = 16_384;

/// Set, list and remove the providers that answer this workspace's prompts
///
/// Each stands in place of the deployment's of the same name. A key is read
/// from a file or from stdin, never from the command line, where other users of
/// the machine could see it. No command shows it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley provider set anthropic --model claude-sonnet --key-file key.txt --price claude-sonnet=3/15/0.3
  pass show openai | galley provider set openai --model gpt-4o-mini --key-file -
  galley provider set openai --model local --base-url https://llm.example.com/v1 --price '*=0/0'
  galley provider list
  galley provider remove anthropic")]
pub(crate) struct Provider {
    #[command(subcommand)]
    command: ProviderCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ProviderCommand {
    /// Set a provider; what is not given is not there any more, its key included
    Set(Set),
    /// List the workspace's own providers
    List,
    /// Remove a provider and its key; the deployment's answers again
    Remove {
        /// openai, anthropic, gemini or ollama
        name: String,
    },
}

#[derive(Debug, Args)]
struct Set {
    /// What it speaks, and what agents call it: openai, anthropic, gemini or ollama
    name: String,
    /// The model that answers when an agent names none
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Its address, where it is not the provider's public one
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// A file with its key, `-` for stdin; without, it asks for none
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Most calls at once from one worker process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrency: Option<u32>,
    /// Dollars per million tokens, once for each model: MODEL=IN/OUT, or IN/OUT/CACHED; `*` for all others
    #[arg(long = "price", value_name = "MODEL=IN/OUT", value_parser = price)]
    prices: Vec<(String, views::ModelPrice)>,
    /// Most completion tokens of one call of the models priced here
    #[arg(long, value_name = "N", default_value_t = MOST_OUTPUT, value_parser = clap::value_parser!(u32).range(1..))]
    max_output: u32,
}

fn price(text: &str) -> Result<(String, views::ModelPrice), String> {
    let told = || "write MODEL=IN/OUT, dollars per million tokens, such as gpt-4o=2.5/10".to_owned();
    let (model, prices) = text.rsplit_once('=').ok_or_else(told)?;
    let micros = |dollars: &str| match dollars.parse::<f64>() {
        Ok(dollars) if (0.0..=1_000_000.0).contains(&dollars) => Ok((dollars * 1e6).round() as u64),
        _ => Err(told()),
    };
    let mut parts = prices.split('/').map(micros);
    let (Some(input), Some(output), cached, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(told());
    };
    if model.is_empty() {
        return Err(told());
    }
    let price = views::ModelPrice {
        input: input?,
        cached: cached.transpose()?,
        output: output?,
        max_output: MOST_OUTPUT,
    };
    Ok((model.to_owned(), price))
}

impl Run for Provider {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            ProviderCommand::Set(set) => {
                let name = set.name.clone();
                let answer = client.put(&["v1", "providers", &name], &set.request()?).await?;
                let told = format!("{name} is this workspace's own now; workers use it within two seconds");
                cli::done(json, &answer, &told)
            }
            ProviderCommand::List => {
                let listed = client.list_all(&["v1", "providers"]).await?;
                if json {
                    return print::json(&listed);
                }
                list(&listed.items()?)
            }
            ProviderCommand::Remove { name } => {
                let path = ["v1", "providers", &name];
                let answer = client.delete(&path).await.map_err(listed_by("galley provider list"))?;
                let told = format!("{name} and its key are removed; the deployment's answers, if it has one");
                cli::done(json, &answer, &told)
            }
        }
    }
}

impl Set {
    fn request(self) -> Result<views::SetProvider, Failure> {
        let mut prices = BTreeMap::new();
        for (model, price) in self.prices {
            let price = views::ModelPrice { max_output: self.max_output, ..price };
            if prices.insert(model.clone(), price).is_some() {
                return Err(Failure::usage(format!("the price of `{model}` is given twice")));
            }
        }
        Ok(views::SetProvider {
            base_url: self.base_url,
            model: self.model,
            api_key: self.key_file.as_deref().map(key).transpose()?,
            max_concurrency: self.max_concurrency,
            prices,
        })
    }
}

/// The key, without the line break that editors and `echo` put behind it.
fn key(file: &Path) -> Result<SecretString, Failure> {
    if file == Path::new("-") && std::io::stdin().is_terminal() {
        print::say("type the key, then Enter and Ctrl-D (it shows as you type; a pipe or a file does not)");
    }
    let text = input(file)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(
            Failure::usage("the key is empty").hint("leave --key-file out for a provider that asks for none")
        );
    }
    Ok(text.to_owned().into())
}

fn list(providers: &[views::Provider]) -> Result<(), Failure> {
    if providers.is_empty() {
        print::say("no providers of its own: the deployment's answer; `galley provider set` gives it one");
        return Ok(());
    }
    let mut table =
        Table::new(&["NAME", "MODEL", "~URL", "KEY", ">AT ONCE", "~PRICES ($ per million)", "SET", "~BY"]);
    for provider in providers {
        let dollars = |micros: u64| micros as f64 / 1e6;
        let prices: Vec<String> = provider
            .prices
            .iter()
            .map(|(model, price)| format!("{model}={}/{}", dollars(price.input), dollars(price.output)))
            .collect();
        table.row(vec![
            cell(&provider.name),
            cell(&provider.model),
            cell(provider.base_url.as_deref().unwrap_or("the public one")),
            cell(if provider.has_key { "sealed" } else { "none" }),
            cell(provider.max_concurrency.map_or("no limit".into(), |most| most.to_string())),
            cell(if prices.is_empty() { "the deployment's".into() } else { prices.join(" ") }),
            cell(time::ago(&provider.set_at)),
            cell(&provider.set_by),
        ]);
    }
    print::data(&table.render(print::data_width()))
}

#[cfg(test)]
mod tests {
    use super::price;

    #[test]
    fn a_price_is_dollars_per_million_tokens() {
        let (model, read) = price("org/big:v=2=2.5/10/0.25").unwrap();
        assert_eq!((model.as_str(), read.input, read.output), ("org/big:v=2", 2_500_000, 10_000_000));
        assert_eq!(read.cached, Some(250_000));
        for bad in ["m", "m=1", "=1/2", "m=1/2/3/4", "m=-1/2", "m=a/b", "m=nan/1"] {
            assert!(price(bad).is_err(), "{bad}");
        }
    }
}
