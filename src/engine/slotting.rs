//! Choosing slots: what is booked, as rows, into the arithmetic of `core`.

use galley_core::automation::time_zone;
use galley_core::ids::AccountId;
use galley_core::slot::{Booked, DayZone, SlotRules, next_slot};
use galley_store::{AccountRow, BookedRows};
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::error::EngineError;
use crate::policy::Policy;
use crate::publish::Found;

/// The rules of one account, ready to choose.
#[derive(Debug)]
pub(crate) struct SlotPlan {
    zone: TimeZone,
    times: Vec<Time>,
    spacing_minutes: u32,
    limits: [Option<u32>; 2],
    days: DayZone,
}

impl SlotPlan {
    /// The rules of an account under a policy.
    pub(crate) fn of(policy: &Policy, account: &AccountRow) -> Result<Self, EngineError> {
        let zone = account.time_zone.as_deref().unwrap_or(&policy.config.time_zone);
        Ok(Self {
            zone: time_zone(zone).map_err(EngineError::Internal)?,
            times: account.slots.iter().filter_map(|time| time.parse().ok()).collect(),
            spacing_minutes: policy.config.min_spacing_minutes,
            limits: [account_limit(account), policy.config.max_daily_posts],
            days: policy.days()?,
        })
    }

    /// The next free slot of an account from an instant on.
    pub(crate) fn choose(&self, account: AccountId, rows: &BookedRows, from: Timestamp) -> Option<Timestamp> {
        let mut booked = Booked::default();
        for (whose, day, used) in &rows.used {
            let Ok(day) = day.parse() else { continue };
            let used = u32::try_from(*used).unwrap_or(0);
            match whose {
                None => *booked.per_day[1].entry(day).or_default() += used,
                Some(whose) if *whose == account => *booked.per_day[0].entry(day).or_default() += used,
                Some(_) => {}
            }
        }
        for (whose, at) in &rows.slots {
            let Ok(at) = at.parse::<Timestamp>() else { continue };
            let day = self.days.day(at);
            *booked.per_day[1].entry(day).or_default() += 1;
            if *whose == account {
                *booked.per_day[0].entry(day).or_default() += 1;
                booked.instants.push(at);
            }
        }
        let sent = rows.sent.iter().filter(|(whose, _)| *whose == account);
        booked.instants.extend(sent.filter_map(|(_, at)| at.parse::<Timestamp>().ok()));
        let rules = SlotRules {
            zone: &self.zone,
            times: &self.times,
            spacing_minutes: self.spacing_minutes,
            limits: self.limits,
            days: &self.days,
        };
        next_slot(&rules, &booked, from)
    }
}

impl Found {
    /// Most posts per day of the account.
    pub(crate) fn account_limit(&self) -> Option<u32> {
        account_limit(&self.account)
    }

    /// Whether anything says when the post may go out.
    pub(crate) fn is_limited(&self) -> bool {
        let config = &self.policy.config;
        config.max_daily_posts.is_some()
            || config.min_spacing_minutes > 0
            || self.account_limit().is_some()
            || !self.account.slots.is_empty()
    }

    fn zone(&self) -> Result<TimeZone, EngineError> {
        let name = self.account.time_zone.as_deref().unwrap_or(&self.policy.config.time_zone);
        time_zone(name).map_err(EngineError::Internal)
    }

    pub(crate) fn slot_plan(&self) -> Result<SlotPlan, EngineError> {
        SlotPlan::of(&self.policy, &self.account)
    }

    /// An instant as the account's people read it.
    pub(crate) fn local(&self, at: Timestamp) -> Result<String, EngineError> {
        let zone = self.zone()?;
        let name = self.account.time_zone.as_deref().unwrap_or(&self.policy.config.time_zone);
        Ok(format!("{} {name}", at.to_zoned(zone).strftime("%a %-d %b %Y %H:%M")))
    }
}

fn account_limit(account: &AccountRow) -> Option<u32> {
    account.max_daily_posts.and_then(|limit| u32::try_from(limit).ok())
}
