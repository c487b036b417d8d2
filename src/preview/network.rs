//! The network as whoever starts it holds it: start, look, set faults, stop.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accounts::{Account, SeedAccount},
    answer::ApiError,
    connections,
    error::{Invalid, PreviewError},
    faults::{Fault, SetFault},
    ledger::Ledger,
    platform::Platform,
    posts::Price,
    router,
    waiting::WaitingSource,
};

/// How long a stop waits for requests that are being served. Hanging ones are
/// dropped at once; this is for a client that stopped in the middle of a body.
const GRACE: Duration = Duration::from_secs(2);

/// How to start a network.
#[derive(Clone, Default)]
pub struct PreviewOptions {
    /// Where accounts and posts are kept; `None`: in memory only. The file is
    /// created if it does not exist, its folder is not.
    pub data_file: Option<PathBuf>,
    /// Where the column "Waiting" comes from; `None`: it stays empty.
    pub galley: Option<Arc<dyn WaitingSource>>,
    /// Accounts to create with fixed tokens.
    pub accounts: Vec<SeedAccount>,
}

/// What every request sees.
pub(crate) struct App {
    platform: Mutex<Platform>,
    pub(crate) galley: Option<Arc<dyn WaitingSource>>,
    /// `http://host:port`, without a slash at the end.
    pub(crate) url: String,
    /// Cancelled when the network stops: faults stop hanging.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the stop's patience is over.
    pub(crate) abort: CancellationToken,
    /// Everything that runs: the listener, connections, late effects.
    pub(crate) tasks: TaskTracker,
}

impl App {
    /// The platform's state, for as long as it takes to look or to write a line.
    pub(crate) fn platform(&self) -> MutexGuard<'_, Platform> {
        // Nothing under the lock is left half done by a panic.
        self.platform.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running preview network. Dropping it stops it, too, but does not wait.
pub struct PreviewNetwork {
    app: Arc<App>,
    hits: watch::Receiver<u64>,
    posts: watch::Receiver<u64>,
}

impl PreviewNetwork {
    /// Starts serving on this listener. Must be called inside a tokio runtime;
    /// reads the data file, if there is one, before it returns.
    ///
    /// # Errors
    ///
    /// When the data file cannot be used or is used by another network, or an
    /// account of the options is not valid.
    pub fn start(listener: TcpListener, options: PreviewOptions) -> Result<Self, PreviewError> {
        let address = listener.local_addr().map_err(PreviewError::Listener)?;
        let mut platform = Platform::open(options.data_file.as_deref())?;
        for seed in &options.accounts {
            let failed = |source| PreviewError::Account { handle: seed.handle.clone(), source };
            platform.seed(seed).map_err(failed)?;
        }
        let (hits, posts) = (platform.faults.hits(), platform.count());
        // "All interfaces" is no address to go to.
        let mut shown = address;
        if shown.ip().is_unspecified() {
            shown.set_ip(match shown.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let app = Arc::new(App {
            platform: Mutex::new(platform),
            galley: options.galley,
            url: format!("http://{shown}"),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let router = router::router(Arc::clone(&app));
        app.tasks.spawn(connections::serve(listener, router, Arc::clone(&app)));
        Ok(Self { app, hits, posts })
    }

    /// Its URL, `http://host:port` without a slash at the end.
    pub fn url(&self) -> &str {
        &self.app.url
    }

    /// Stops: no new connections, hanging requests are dropped, requests that
    /// are being served get two seconds, posts that were to appear late appear.
    /// When it returns, the port and the data file are free.
    pub async fn stop(self) {
        self.app.stop.cancel();
        self.app.tasks.close();
        if timeout(GRACE, self.app.tasks.wait()).await.is_err() {
            self.app.abort.cancel();
            self.app.tasks.wait().await;
        }
    }

    /// What was published.
    pub fn ledger(&self) -> Ledger {
        self.app.platform().ledger()
    }

    /// Creates an account.
    ///
    /// # Errors
    ///
    /// When a text is not valid, the handle is taken, or the data file cannot
    /// be written.
    pub fn add_account(&self, handle: &str, display_name: &str) -> Result<Account, Invalid> {
        let added = self.app.platform().add_account(handle, display_name);
        added.map_err(|error| Invalid::new("account", ApiError::into_message(error)))
    }

    /// Sets what a post costs from now on.
    ///
    /// # Errors
    ///
    /// When a number is out of range.
    pub fn set_price(&self, price: Price) -> Result<(), Invalid> {
        price.check()?;
        self.app.platform().price = price;
        Ok(())
    }

    /// Sets a fault.
    ///
    /// # Errors
    ///
    /// When there is no such account, or a number is out of range.
    pub fn set_fault(&self, fault: SetFault) -> Result<Fault, Invalid> {
        self.app.platform().set_fault(fault)
    }

    /// All faults that are set, used-up ones included, in the order of setting.
    pub fn faults(&self) -> Vec<Fault> {
        self.app.platform().faults.list()
    }

    /// Deletes all faults. Requests that hang already go on hanging.
    pub fn clear_faults(&self) {
        self.app.platform().faults.clear();
    }

    /// The number of hits of all faults since the start, deleted ones included;
    /// a hit counts when its effect, if it has one at once, is in the ledger.
    pub fn hits(&self) -> watch::Receiver<u64> {
        self.hits.clone()
    }

    /// Waits until faults have hit at least this often since the start.
    pub async fn wait_for_hits(&self, hits: u64) {
        // The sender lives as long as we do.
        let _ = self.hits().wait_for(|seen| *seen >= hits).await;
    }

    /// The number of posts ever, those of the data file included.
    pub fn posts(&self) -> watch::Receiver<u64> {
        self.posts.clone()
    }

    /// Waits until at least this many posts were published ever.
    pub async fn wait_for_posts(&self, posts: u64) {
        let _ = self.posts().wait_for(|seen| *seen >= posts).await;
    }
}

impl Drop for PreviewNetwork {
    fn drop(&mut self) {
        self.app.stop.cancel();
        self.app.tasks.close();
    }
}
