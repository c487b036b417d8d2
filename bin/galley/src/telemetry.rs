//! Log lines, metrics, and a panic hook: what operators see of a process.
//! Logs go to stderr (or a file, for `galley dev`); metrics are served on a
//! port of their own.

use std::fs::File;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Mutex;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Address, Log, LogFormat};
use crate::exit::Exit;
use crate::failure::Failure;

/// Buckets of run times, in seconds: from a step that does nothing to a model
/// that thinks for minutes.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Buckets of batch sizes.
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// Where log lines go.
#[derive(Debug)]
pub(crate) enum LogTo {
    /// To whoever started the process.
    Stderr,
    /// Into a file, so that the terminal stays free for talk.
    File(File),
}

/// Starts logging and logs panics.
///
/// # Errors
/// A filter that is none.
pub(crate) fn start_logging(log: &Log, to: LogTo) -> Result<(), Failure> {
    let wanted = wanted(&log.filter)?;
    let colours = matches!(to, LogTo::Stderr) && std::io::stderr().is_terminal() && !no_color();
    let writer = match to {
        LogTo::Stderr => BoxMakeWriter::new(std::io::stderr),
        LogTo::File(file) => BoxMakeWriter::new(Mutex::new(file)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match log.format {
        LogFormat::Human => {
            let lines = lines.with_target(false).with_ansi(colours);
            tracing_subscriber::registry().with(lines.with_filter(wanted)).init();
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true);
            tracing_subscriber::registry().with(lines.with_filter(wanted)).init();
        }
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(panic.place = place, panic.message = message, "panic at {place}: {message}");
        usual(panic);
    }));
    Ok(())
}

/// Which lines are written: those of the filter, and none of the library that
/// talks to model providers, whatever the filter says. It logs what they
/// answer as it came, and a provider may answer with the key it refused or
/// with the words of a sealed workspace. What matters of it the agents log
/// themselves, without.
fn wanted<S>(filter: &str) -> Result<impl Filter<S> + Send + Sync + 'static, Failure>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let asked = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage("setting log.filter has a value that cannot be used")
            .detail(format!("`{filter}`: {error}"))
            .hint("write a level such as `info`, or directives such as `info,galley_engine=debug`")
    })?;
    let tells = |target: &str| target.split("::").next() != Some("genai");
    Ok(asked.and(filter_fn(move |line| tells(line.target()))))
}

fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Serves `/metrics` and says where, unless it is off. Must be called inside
/// the runtime.
///
/// # Errors
/// A taken port.
pub(crate) fn serve_metrics(address: Address) -> Result<Option<SocketAddr>, Failure> {
    let Address::At(mut address) = address else { return Ok(None) };
    if address.port() == 0 {
        // The exporter does not say which port it got: choose one for it.
        let free = std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr());
        address = free.map_err(|error| Failure::unexpected("no free port for metrics").detail(error))?;
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), SIZES))
        .map_err(|error| Failure::unexpected("metrics cannot be set up").detail(error))?;
    builder.with_http_listener(address).install().map_err(|error| match error {
        BuildError::FailedToCreateHTTPListener(why) => {
            cannot_listen("metrics", address, &why, "--metrics-addr 127.0.0.1:PORT", "--metrics-addr off")
        }
        other => Failure::unexpected("metrics cannot be set up").detail(other),
    })?;
    tracing::info!(metrics.addr = %address, "metrics are served at http://{address}/metrics");
    Ok(Some(address))
}

/// The API's socket, taken before anything else starts.
///
/// # Errors
/// A taken port.
pub(crate) async fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    listen_for("the API", "--api-addr", address).await
}

/// Takes a port for somebody whose address a flag sets.
///
/// # Errors
/// It is taken.
pub(crate) async fn listen_for(
    what: &str,
    flag: &str,
    address: SocketAddr,
) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::bind(address).await.map_err(|error| {
        // Two further on: the next one is the usual place of somebody else.
        let another = format!("{flag} {}:{}", address.ip(), address.port().wrapping_add(2).max(1_024));
        let any = format!("{flag} 127.0.0.1:0 (any free port)");
        cannot_listen(what, address, &error.to_string(), &another, &any)
    })
}

fn cannot_listen(what: &str, address: SocketAddr, why: &str, another: &str, or: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("port {} is taken: {what} cannot listen on {address}", address.port()),
    )
    .detail(why)
    .hint(format!("stop what listens there, or choose another address: {another}, or {or}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_providers_answer_is_no_log_line_whatever_the_filter() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let filter = wanted("trace,genai::adapter=trace").ok().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "genai::adapter::adapters::anthropic::streamer", "wrong key sk-1");
            tracing::trace!(target: "genai", "wrong key sk-1");
            tracing::debug!(target: "genailike", "told");
        });
        let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(told.contains("told") && !told.contains("sk-1"), "{told}");
        assert!(wanted::<tracing_subscriber::Registry>("a=b=c").is_err());
    }
}
