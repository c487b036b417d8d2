//! Faults that a tester sets: which requests they hit, how often, and the count
//! of every hit. What a hit does to a request is in [`crate::publish`].

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{error::Invalid, posts::Endpoint};

/// Faults kept, used-up ones included; the oldest used-up ones go first.
const FAULTS: usize = 1_000;
/// Milliseconds of delay, when none are given.
const DELAY_MS: u64 = 1_000;
/// Milliseconds of delay, at most: ten minutes.
const LONGEST_MS: u64 = 600_000;

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 500, nothing published.
    Fail,
    /// 422, nothing published.
    Refuse,
    /// 429 with `Retry-After: 1`, nothing published.
    Throttle,
    /// Never answers, nothing published.
    Hang,
    /// Publishes, then never answers.
    HangAfter,
    /// Publishes, and answers after the delay.
    Late,
    /// Closes the connection at once without a reply, and publishes after the
    /// delay (or when the network stops, if that is sooner).
    LateEffect,
    /// Publishes, then closes the connection without a reply.
    LoseReply,
    /// 200 with an error in the body, nothing published.
    OkWithError,
}

impl FaultKind {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Refuse => "refuse",
            Self::Throttle => "throttle",
            Self::Hang => "hang",
            Self::HangAfter => "hang_after",
            Self::Late => "late",
            Self::LateEffect => "late_effect",
            Self::LoseReply => "lose_reply",
            Self::OkWithError => "ok_with_error",
        }
    }

    const fn has_delay(self) -> bool {
        matches!(self, Self::Late | Self::LateEffect)
    }
}

/// The requests a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTarget {
    /// Publishing by the idempotent endpoint.
    Idempotent,
    /// Publishing by the verifiable endpoint.
    Verifiable,
    /// Publishing by the blind endpoint.
    Blind,
    /// Looking for a key at the verifiable endpoint.
    Lookup,
}

impl FaultTarget {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idempotent => "idempotent",
            Self::Verifiable => "verifiable",
            Self::Blind => "blind",
            Self::Lookup => "lookup",
        }
    }
}

impl From<Endpoint> for FaultTarget {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Idempotent => Self::Idempotent,
            Endpoint::Verifiable => Self::Verifiable,
            Endpoint::Blind => Self::Blind,
        }
    }
}

/// A fault to set.
///
/// It hits requests that would have been served: their token, key and body are
/// checked first. Of several faults that fit a request, the one set first hits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetFault {
    /// Only this account's requests, by handle or id; `None`: everybody's.
    #[serde(default)]
    pub account: Option<String>,
    /// Only these requests; `None`: all publishing, but no looking.
    #[serde(default)]
    pub endpoint: Option<FaultTarget>,
    /// What it does.
    pub kind: FaultKind,
    /// How many requests it hits; `None`: all until it is deleted.
    #[serde(default)]
    pub times: Option<u64>,
    /// Milliseconds, for `late` and `late_effect` only: at most 600,000;
    /// `None`: 1,000.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

impl SetFault {
    /// A fault of this kind for all publishing, until it is deleted.
    pub const fn new(kind: FaultKind) -> Self {
        Self { account: None, endpoint: None, kind, times: None, delay_ms: None }
    }

    /// Only requests of this account, by handle or id.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Only these requests.
    #[must_use]
    pub const fn endpoint(mut self, endpoint: FaultTarget) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Only this many requests.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// The delay of `late` and `late_effect`, to the millisecond.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.times == Some(0) {
            return Err(Invalid::new("times", "must be at least 1; leave it out for `until deleted`"));
        }
        match self.delay_ms {
            Some(_) if !self.kind.has_delay() => {
                Err(Invalid::new("delayMs", "is only for `late` and `late_effect`"))
            }
            Some(delay) if delay > LONGEST_MS => {
                Err(Invalid::new("delayMs", format!("must be at most {LONGEST_MS}")))
            }
            _ => Ok(()),
        }
    }
}

/// A fault that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Its number, to delete it by.
    pub id: u64,
    /// The handle of the only account it hits.
    pub account: Option<String>,
    /// The only requests it hits.
    pub endpoint: Option<FaultTarget>,
    /// What it does.
    pub kind: FaultKind,
    /// Hits left; `None`: no limit.
    pub remaining: Option<u64>,
    /// Its delay in milliseconds, if its kind has one.
    pub delay_ms: Option<u64>,
    /// Requests it hit so far.
    pub hits: u64,
}

impl Fault {
    pub(crate) const fn used_up(&self) -> bool {
        matches!(self.remaining, Some(0))
    }

    fn fits(&self, account: &str, target: FaultTarget) -> bool {
        let endpoint = self.endpoint.map_or(target != FaultTarget::Lookup, |endpoint| endpoint == target);
        endpoint && !self.used_up() && self.account.as_deref().is_none_or(|only| only == account)
    }
}

/// One hit: what to do with the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) kind: FaultKind,
    pub(crate) delay: Duration,
}

/// All faults that are set.
pub(crate) struct Switchboard {
    faults: VecDeque<Fault>,
    next: u64,
    /// Hits of all faults ever, also of deleted ones.
    hits: watch::Sender<u64>,
}

impl Switchboard {
    pub(crate) fn new() -> Self {
        Self { faults: VecDeque::new(), next: 1, hits: watch::Sender::new(0) }
    }

    /// Sets a fault; its account is a handle that exists.
    pub(crate) fn set(&mut self, wanted: SetFault) -> Result<Fault, Invalid> {
        wanted.check()?;
        if self.faults.len() >= FAULTS {
            let Some(used_up) = self.faults.iter().position(Fault::used_up) else {
                let problem = format!("{FAULTS} faults are set; delete some first");
                return Err(Invalid::new("faults", problem));
            };
            self.faults.remove(used_up);
        }
        let delay_ms = wanted.kind.has_delay().then_some(wanted.delay_ms.unwrap_or(DELAY_MS));
        let fault = Fault {
            id: self.next,
            account: wanted.account,
            endpoint: wanted.endpoint,
            kind: wanted.kind,
            remaining: wanted.times,
            delay_ms,
            hits: 0,
        };
        self.next += 1;
        self.faults.push_back(fault.clone());
        Ok(fault)
    }

    /// The hit of the first fault that fits this request, counted by
    /// [`Self::count`] when its effect is done.
    pub(crate) fn hit(&mut self, account: &str, target: FaultTarget) -> Option<Hit> {
        let fault = self.faults.iter_mut().find(|fault| fault.fits(account, target))?;
        fault.hits += 1;
        fault.remaining = fault.remaining.map(|left| left.saturating_sub(1));
        Some(Hit { kind: fault.kind, delay: Duration::from_millis(fault.delay_ms.unwrap_or(0)) })
    }

    /// Tells everybody who waits for hits that one is done.
    pub(crate) fn count(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }

    pub(crate) fn hits(&self) -> watch::Receiver<u64> {
        self.hits.subscribe()
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.faults.iter().cloned().collect()
    }

    /// Deletes one fault; false if there is none with this number.
    pub(crate) fn delete(&mut self, id: u64) -> bool {
        let before = self.faults.len();
        self.faults.retain(|fault| fault.id != id);
        self.faults.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }
}
