//! The workflows that are submitted, and the policies they run under.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::agents::{GARBAGE, POISON, SCRIBE};
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
const KINDS: [(&str, u32); 14] = [
    ("chain", 12),
    ("diamond", 16),
    ("expansion", 8),
    ("publish", 30),
    ("campaign", 10),
    ("fan_out", 8),
    ("flaky", 6),
    ("throttled", 3),
    ("broken", 4),
    ("poison", 2),
    ("garbage", 5),
    ("blocking", 1),
    ("slow", 6),
    ("conditional", 4),
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
    let mut text = |what: &str| {
        let salt: u32 = random.random();
        format!("{what} {number} {salt:08x} {}", tenant.canary)
    };
    let brief = text("brief");
    let post = text("post");
    let steps = steps(name, random, tenant, &post);
    let body = json!({
        "definition": { "name": name, "steps": steps },
        "input": { "brief": brief },
        "priority": random.random_range(3..7),
    });
    Shape { name, body }
}

fn steps(name: &str, random: &mut StdRng, tenant: &Tenant, post: &str) -> Value {
    let mut slow = || random.random_range(0..250_u32);
    let scribe = |name: &str, needs: &[&str], input: Value| json!({ "name": name, "agent": SCRIBE, "needs": needs, "input": input });
    let write = |slow: u32| scribe("write", &[], json!({ "text": post, "slowMs": slow }));
    let work = |slow: u32| json!({ "slowMs": slow });
    match name {
        "diamond" => {
            // Two branches that take exactly as long meet at their child.
            let both = slow();
            json!([
                scribe("start", &[], work(slow())),
                scribe("left", &["start"], work(both)),
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
        "blocking" => json!([
            { "name": "blocking", "agent": SCRIBE, "needs": [], "input": { "blockMs": 4_500 },
              "retry": { "timeoutMs": 1_000 } },
            scribe("after", &["blocking"], Value::Null),
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
            for (before, name) in [("one", "two"), ("two", "three"), ("three", "four")] {
                steps.push(scribe(name, &[before], work(slow() / 2)));
            }
            Value::Array(steps)
        }
    }
}

fn publish(name: &str, account: &str) -> Value {
    json!({ "name": name, "agent": "publisher", "needs": ["write"], "input": { "account": account } })
}

fn account<'a>(random: &mut StdRng, tenant: &'a Tenant) -> &'a str {
    &tenant.accounts[random.random_range(0..tenant.accounts.len())].name
}

/// The policies of a tenant: what it begins with and what it changes to.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its zone.
    pub zone: String,
    /// The modes it changes between; the first is what it begins with.
    pub modes: &'static [&'static str],
    /// Whether posts may need an approval by policy.
    pub approvals: bool,
    /// The daily limits it changes between.
    pub limits: &'static [Option<u32>],
}

impl Policy {
    /// The policy of the tenant of this number. Zones are chosen so that it is
    /// another day there than UTC's for one of them at any time.
    pub fn of(tenant: usize) -> Self {
        let policy =
            |zone: &str, modes, approvals, limits| Self { zone: zone.into(), modes, approvals, limits };
        match tenant {
            0 => policy("Europe/Berlin", &["full_autonomous"], false, &[None]),
            1 => policy(
                "America/New_York",
                &["assisted", "hybrid", "full_autonomous"],
                true,
                &[None, Some(40)],
            ),
            2 => policy("Pacific/Kiritimati", &["full_autonomous"], false, &[Some(5), Some(7), Some(9)]),
            _ => {
                policy("Pacific/Niue", &["full_autonomous", "assisted", "manual"], true, &[Some(8), Some(12)])
            }
        }
    }

    /// The config: its `choice`th mode and limit.
    pub fn config(&self, choice: usize, approval: bool) -> Value {
        json!({
            "mode": self.modes[choice % self.modes.len()],
            "rules": [],
            "enabledAgents": null,
            "scheduleAutomation": true,
            "contentApprovalRequired": self.approvals && approval,
            "maxDailyPosts": self.limits[choice % self.limits.len()],
            "allowedPlatforms": null,
            "timeZone": self.zone,
            "minSpacingMinutes": 0,
            "approvalExpiryHours": 1,
        })
    }
}
