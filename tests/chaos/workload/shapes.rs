//! The workflows that are submitted, and the policies they run under.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::treasurer::POOR;
use crate::agents::{GARBAGE, POISON, SCRIBE};
use crate::outside::SCHOLAR;
use crate::world::Tenant;

/// A workflow to submit.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// What people call it.
    pub(super) name: &'static str,
    /// The request's body.
    pub(super) body: Value,
}

/// How often each kind is drawn, out of the sum of all.
const KINDS: [(&str, u32); 13] = [
    ("chain", 8),
    ("diamond", 16),
    ("expansion", 6),
    ("publish", 40),
    ("campaign", 10),
    ("everywhere", 8),
    ("fan_out", 6),
    ("flaky", 6),
    ("throttled", 3),
    ("broken", 3),
    ("garbage", 1),
    ("slow", 6),
    ("conditional", 4),
];

/// A kind of workflow that is submitted at a steady rate.
#[derive(Debug)]
pub(super) struct Desk {
    /// Which kind.
    pub(super) shape: &'static str,
    /// For whom: the tenants' places.
    pub(super) places: &'static [usize],
    /// Milliseconds between two of them.
    pub(super) every_ms: u64,
    /// How many at once.
    pub(super) at_once: u64,
}

/// What must have happened often enough in every run, however short.
pub(super) const DESKS: [Desk; 6] = [
    // Together, so that some end in one batch.
    Desk { shape: "garbage", places: &[0, 2], every_ms: 9_000, at_once: 5 },
    Desk { shape: "hopeless", places: &[0, 2], every_ms: 4_000, at_once: 1 },
    Desk { shape: "poison", places: &[0, 2], every_ms: 20_000, at_once: 1 },
    Desk { shape: "overtaken", places: &[0, 2], every_ms: 3_500, at_once: 1 },
    // A little more than there is money for.
    Desk { shape: "paid", places: &[POOR], every_ms: 900, at_once: 1 },
    // More than its days have room for.
    Desk { shape: "publish", places: &[2], every_ms: 1_500, at_once: 1 },
];

/// Draws a workflow for a tenant.
pub(super) fn draw(random: &mut StdRng, tenant: &Tenant, number: u64) -> Shape {
    let sum: u32 = KINDS.iter().map(|(_, weight)| weight).sum();
    let mut at = random.random_range(0..sum);
    let name = KINDS
        .iter()
        .find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        })
        .map_or("chain", |(name, _)| name);
    make(name, random, tenant, number)
}

/// A workflow of a kind.
pub(super) fn make(name: &'static str, random: &mut StdRng, tenant: &Tenant, number: u64) -> Shape {
    let mut text = |what: &str| {
        let salt: u32 = random.random();
        format!("{what} {number} {salt:08x} {}", tenant.canary)
    };
    let brief = text("brief");
    let post = text("post");
    let steps = steps(name, random, tenant, &post);
    let body = json!({
        "definition": { "name": name, "steps": steps },
        "input": { "brief": brief, "accounts": accounts(tenant) },
        "priority": random.random_range(3..7),
    });
    Shape { name, body }
}

fn steps(name: &str, random: &mut StdRng, tenant: &Tenant, post: &str) -> Value {
    let mut slow = || random.random_range(0..250_u32);
    let scribe = |name: &str, needs: &[&str], input: Value| json!({ "name": name, "agent": SCRIBE, "needs": needs, "input": input });
    // The same, in another language.
    let scholar = |name: &str, needs: &[&str], input: Value| json!({ "name": name, "agent": SCHOLAR, "needs": needs, "input": input });
    let write = |slow: u32| scribe("write", &[], json!({ "text": post, "slowMs": slow }));
    let work = |slow: u32| json!({ "slowMs": slow });
    match name {
        "diamond" => {
            // Two branches that take exactly as long meet at their child.
            let both = slow();
            json!([
                scribe("start", &[], work(slow())),
                scholar("left", &["start"], work(both)),
                scribe("right", &["start"], work(both)),
                scribe("join", &["left", "right"], work(slow())),
            ])
        }
        "expansion" => json!([
            scribe("list", &[], json!({ "items": 1 + slow() % 6 })),
            { "name": "each", "agent": SCRIBE, "needs": ["list"], "input": work(slow()),
              "forEach": { "step": "list", "path": "/items", "max": 8 } },
            scribe("sum", &["each"], work(slow())),
        ]),
        "publish" => {
            let account = account(random, tenant);
            let slow = random.random_range(0..250);
            json!([write(slow), publish("publish", account)])
        }
        // Posts of one text on every account, at once.
        "campaign" => {
            let mut steps = vec![write(slow())];
            steps.extend(
                tenant
                    .accounts
                    .iter()
                    .map(|account| publish(&format!("publish_{}", account.name), &account.name)),
            );
            Value::Array(steps)
        }
        // The same, of an expansion over the accounts the submitter named.
        "everywhere" => json!([
            write(slow()),
            { "name": "publish", "agent": "publisher", "needs": ["write"],
              "forEach": { "path": "/accounts", "max": 5 }, "retry": hurried() },
        ]),
        "fan_out" => {
            let mut steps: Vec<Value> =
                (0..6).map(|part| scribe(&format!("part_{part}"), &[], work(slow()))).collect();
            let parts: Vec<String> = (0..6).map(|part| format!("part_{part}")).collect();
            let needs: Vec<&str> = parts.iter().map(String::as_str).collect();
            steps.push(scribe("sum", &needs, Value::Null));
            Value::Array(steps)
        }
        "flaky" => json!([
            scribe("first", &[], json!({ "failFirst": 1 + slow() % 3 })),
            scribe("second", &["first"], work(slow())),
        ]),
        "throttled" => json!([
            scribe("first", &[], json!({ "throttleMs": 300 })),
            scribe("second", &["first"], work(slow())),
        ]),
        "broken" => json!([
            scribe(
                "first",
                &[],
                if slow() % 2 == 0 { json!({ "permanent": true }) } else { json!({ "failFirst": 40 }) }
            ),
            scribe("second", &["first"], work(slow())),
        ]),
        "poison" => json!([
            { "name": "poison", "agent": POISON, "needs": [], "input": work(slow()) },
            scribe("after", &["poison"], work(slow())),
        ]),
        // Neighbours in its batch must commit.
        "garbage" => json!([
            { "name": "garbage", "agent": GARBAGE, "needs": [], "retry": { "maxAttempts": 2 } },
            scribe("beside", &[], Value::Null),
            scribe("beside_too", &[], Value::Null),
            scribe("after", &["garbage"], Value::Null),
        ]),
        // Fails every attempt it has.
        "hopeless" => json!([
            { "name": "first", "agent": SCRIBE, "needs": [], "input": { "failFirst": 40 },
              "retry": { "maxAttempts": 2, "backoffMs": 50, "maxBackoffMs": 100 } },
            scribe("second", &["first"], work(slow())),
        ]),
        // Nobody can stop it, so another worker runs it, too; then it reports,
        // while the other still runs, or while what needs its result begins.
        "overtaken" => {
            let mut steps = vec![
                json!({ "name": "blocking", "agent": SCRIBE, "needs": [],
                        "input": { "blockMs": 5_500, "blockAgainMs": 2_000 },
                        "retry": { "timeoutMs": 300 } }),
                scribe("pause", &["blocking"], work(1_000)),
            ];
            steps.extend(
                (0..6).map(|part| scribe(&format!("part_{part}"), &["blocking", "pause"], work(slow()))),
            );
            Value::Array(steps)
        }
        // Three at once, for what may be the last cent.
        "paid" => json!([
            scribe("left", &[], json!({ "paid": 1 })),
            scribe("right", &[], json!({ "paid": 1 })),
            scholar("third", &[], json!({ "paid": 2 })),
            scribe("join", &["left", "right", "third"], work(slow())),
        ]),
        "slow" => json!([
            scribe("first", &[], json!({ "slowMs": 800 + slow() * 8 })),
            scribe("second", &["first"], work(slow())),
        ]),
        "conditional" => {
            let text = |yes: bool| json!({ "text": post, "items": u32::from(yes) });
            json!([
                scribe("ask", &[], text(slow() % 2 == 0)),
                { "name": "maybe", "agent": SCRIBE, "needs": ["ask"], "when": "size(results.ask.items) > 0" },
                { "name": "try", "agent": SCRIBE, "needs": ["ask"], "optional": true,
                  "input": { "permanent": slow() % 2 == 0 } },
                scribe("end", &["maybe", "try"], Value::Null),
            ])
        }
        _ => {
            let mut steps = vec![scribe("one", &[], work(slow()))];
            steps.push(scholar("two", &["one"], work(slow() / 2)));
            for (before, name) in [("two", "three"), ("three", "four")] {
                steps.push(scribe(name, &[before], work(slow() / 2)));
            }
            Value::Array(steps)
        }
    }
}

fn publish(name: &str, account: &str) -> Value {
    json!({
        "name": name, "agent": "publisher", "needs": ["write"], "input": { "account": account },
        "retry": hurried(),
    })
}

/// An unknown post rests longer after each look that was in vain: in a run of
/// minutes not by minutes.
fn hurried() -> Value {
    json!({ "backoffMs": 100, "maxBackoffMs": 1_500 })
}

/// A publish step of what another step wrote.
pub fn publish_of(need: &str, account: &str) -> Value {
    json!({
        "name": "publish", "agent": "publisher", "needs": [need], "input": { "account": account },
        "retry": hurried(),
    })
}

fn accounts(tenant: &Tenant) -> Vec<&str> {
    tenant.accounts.iter().map(|account| account.name.as_str()).collect()
}

fn account<'a>(random: &mut StdRng, tenant: &'a Tenant) -> &'a str {
    // Half of them where one can look: that is where one can look too early.
    let verifiable = tenant.accounts.iter().find(|account| account.endpoint == "verifiable");
    match verifiable.filter(|_| random.random_ratio(1, 3)) {
        Some(account) => &account.name,
        None => &tenant.accounts[random.random_range(0..tenant.accounts.len())].name,
    }
}

/// The policies of a tenant: what it begins with and what it changes to.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its zone.
    pub zone: &'static str,
    /// The modes it changes between; the first is what it begins with.
    pub modes: &'static [&'static str],
    /// Whether posts may need an approval by policy.
    pub approvals: bool,
    /// The daily limit it begins with; it rises with each change, so that its
    /// days are almost full all the time.
    pub limit: Option<u32>,
}

impl Policy {
    /// The policy of the tenant of this number.
    pub fn of(tenant: usize) -> Self {
        let [east, west] = other_days();
        match tenant {
            0 => Self { zone: "Europe/Berlin", modes: &["full_autonomous"], approvals: false, limit: None },
            1 => Self {
                zone: "America/New_York",
                modes: &["assisted", "assisted", "hybrid", "full_autonomous"],
                approvals: true,
                limit: None,
            },
            2 => Self { zone: east, modes: &["full_autonomous"], approvals: false, limit: Some(2) },
            _ => Self {
                zone: west,
                modes: &["full_autonomous", "assisted", "assisted", "manual"],
                approvals: true,
                limit: Some(3),
            },
        }
    }

    /// Whether its days have a limit.
    pub fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// The config after so many changes.
    pub fn config(&self, changes: usize, approval: bool) -> Value {
        // Up, and now and then below what is used already.
        let changed = u32::try_from(changes).unwrap_or(u32::MAX);
        let limit = self.limit.map(|limit| limit + changed / 2 - if changed % 6 == 5 { 2 } else { 0 });
        json!({
            "mode": self.modes[changes % self.modes.len()],
            "rules": [],
            "enabledAgents": null,
            "scheduleAutomation": changes % 4 != 3,
            "contentApprovalRequired": self.approvals && approval,
            "maxDailyPosts": limit,
            "allowedPlatforms": null,
            "timeZone": self.zone,
            "minSpacingMinutes": 0,
            "approvalExpiryHours": 1,
        })
    }
}

/// Two zones where it is another day than UTC's now: who counts in UTC counts
/// wrong there.
fn other_days() -> [&'static str; 2] {
    let now = jiff::Timestamp::now();
    let utc = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let zones = [
        "Pacific/Kiritimati",
        "Pacific/Tongatapu",
        "Pacific/Auckland",
        "Pacific/Niue",
        "Pacific/Pago_Pago",
        "Pacific/Honolulu",
    ];
    let other = |zone: &&&str| now.in_tz(zone).is_ok_and(|there| there.date() != utc);
    let mut there = zones.iter().filter(other);
    let first = there.next().copied().unwrap_or("Pacific/Kiritimati");
    [first, there.next().copied().unwrap_or(first)]
}
