//! What posts cost: reserved by the intent, settled by what becomes of them. The
//! money follows the post, not the worker.
//!
//! What the platform truly took, no shortcut can change.

use super::Publishing;
use super::action::PostNo;
use super::shortcut::Shortcut;
use super::state::{DAYS, FIRST, Outgoing, Post, State, StepState};

/// What the first revision costs; every edit makes it cheaper.
const DEAR: u8 = 2;
const CHEAP: u8 = 1;

/// The open row of a post in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bill {
    /// Nothing is owed.
    None,
    /// It may be out.
    Reserved(u8),
    /// Only a person can find out: charged until they do.
    Estimated(u8),
    /// It is out.
    Settled(u8),
}

/// What is counted on a day.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) reserved: u8,
    pub(crate) spent: u8,
}

/// Money: a budget, its counters, and what is owed for each post.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Purse {
    pub(crate) budget: u8,
    pub(crate) counters: [Counter; DAYS],
    pub(crate) bills: [Bill; super::state::POSTS],
    /// What a step that waits was refused.
    pub(crate) needed: [u8; super::state::POSTS],
    /// Truth: what the platform took for each post.
    pub(crate) taken: [u8; super::state::POSTS],
}

impl Purse {
    pub(crate) fn new(budget: u8) -> Self {
        Self {
            budget,
            counters: Default::default(),
            bills: [Bill::None; super::state::POSTS],
            needed: Default::default(),
            taken: Default::default(),
        }
    }
}

impl Publishing {
    /// What some bytes cost.
    pub(crate) fn price(&self, content: u8) -> u8 {
        match content {
            _ if self.budget == 0 => 0,
            FIRST => DEAR,
            _ => CHEAP,
        }
    }

    /// What there is room for today.
    pub(crate) fn room(s: &State) -> u8 {
        let today = s.purse.counters[usize::from(s.day)];
        s.purse.budget.saturating_sub(today.reserved + today.spent)
    }

    /// Whether a step that waits for money may go on.
    pub(crate) fn is_funded(s: &State, post: PostNo) -> bool {
        Self::room(s) >= s.purse.needed[usize::from(post.0)]
    }

    /// The last of TX1.
    pub(crate) fn reserve(&self, s: &mut State, post: PostNo, content: u8) {
        let price = self.price(content);
        if price > 0 {
            s.purse.bills[usize::from(post.0)] = Bill::Reserved(price);
            s.purse.counters[usize::from(s.day)].reserved += price;
        }
    }

    /// Rolled back as a whole; no attempt.
    pub(crate) fn wait_for_money(&self, s: &mut State, post: PostNo, content: u8) {
        s.purse.needed[usize::from(post.0)] = self.price(content);
        let row = s.post_mut(post);
        row.attempts = row.attempts.saturating_sub(1);
        row.claim = 0;
        row.step = StepState::WaitingBudget;
    }

    /// What became of a post, for the money: in the transaction that writes it.
    pub(crate) fn settle_bill(&self, s: &mut State, post: PostNo) {
        let publication = s.post(post).publication;
        let (place, day) = (usize::from(post.0), usize::from(publication.day));
        let counter = &mut s.purse.counters[day];
        let bill = &mut s.purse.bills[place];
        let price = match *bill {
            Bill::None => return,
            Bill::Reserved(price) => {
                if publication.state == Outgoing::Unknown || publication.state == Outgoing::Intent {
                    return;
                }
                counter.reserved -= price;
                price
            }
            Bill::Estimated(price) | Bill::Settled(price) => {
                counter.spent -= price;
                price
            }
        };
        *bill = match publication.state {
            Outgoing::Published => Bill::Settled(price),
            Outgoing::InDoubt if self.takes(Shortcut::DoubtIsFree) => Bill::None,
            Outgoing::InDoubt => Bill::Estimated(price),
            _ => Bill::None,
        };
        if *bill != Bill::None {
            counter.spent += price;
        }
    }

    /// The session of whoever sent it is over. That says nothing about the post.
    pub(crate) fn worker_lost(&self, s: &mut State, post: PostNo) {
        let day = usize::from(s.post(post).publication.day);
        let bill = &mut s.purse.bills[usize::from(post.0)];
        if let (Bill::Reserved(price), true) = (*bill, self.takes(Shortcut::LostWorkerFreesMoney)) {
            s.purse.counters[day].reserved -= price;
            *bill = Bill::None;
        }
    }

    /// The platform takes its price.
    pub(crate) fn platform_takes(&self, s: &mut State, post: PostNo) {
        s.purse.taken[usize::from(post.0)] += self.price(s.post(post).publication.content);
    }
}

/// What is reserved and spent, and what was truly taken, of every day.
pub(crate) fn within_budget(p: &Publishing, s: &State) -> bool {
    (0..DAYS).all(|day| {
        let counter = s.purse.counters[day];
        let posts = p.posts().filter(|&post| usize::from(s.post(post).publication.day) == day);
        let taken: u8 = posts.map(|post| s.purse.taken[usize::from(post.0)]).sum();
        counter.reserved + counter.spent <= s.purse.budget && taken <= s.purse.budget
    })
}

/// What is out is paid, what may be out is reserved, and nothing else is; the
/// counters say the same.
pub(crate) fn posts_are_paid(p: &Publishing, s: &State) -> bool {
    let wanted = |row: &Post| {
        let price = p.price(row.publication.content);
        match row.publication.state {
            _ if price == 0 => Bill::None,
            Outgoing::Intent | Outgoing::Unknown => Bill::Reserved(price),
            Outgoing::InDoubt => Bill::Estimated(price),
            Outgoing::Published => Bill::Settled(price),
            Outgoing::Absent | Outgoing::NotSent | Outgoing::Refused => Bill::None,
        }
    };
    let bills = p.posts().all(|post| s.purse.bills[usize::from(post.0)] == wanted(s.post(post)));
    let mut sums = [Counter::default(); DAYS];
    for post in p.posts() {
        let sum = &mut sums[usize::from(s.post(post).publication.day)];
        match s.purse.bills[usize::from(post.0)] {
            Bill::None => {}
            Bill::Reserved(price) => sum.reserved += price,
            Bill::Estimated(price) | Bill::Settled(price) => sum.spent += price,
        }
    }
    bills && sums == s.purse.counters
}
