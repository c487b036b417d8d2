//! Somebody who takes places of a day: what an intent writes, and nothing else
//! of publishing.

use galley_core::ids::{AccountId, PostId, WorkflowId, WorkflowKey, WorkspaceId};
use galley_engine::store::{DayRule, IntentWrite, PostOp, QuotaTake, RunWrite, SaveBatch, Store, StoreError};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Refused, WINDOW_MS};
use crate::harness::Bed;

/// A workspace whose one workflow sends out post after post.
pub(super) struct Counter {
    store: Store,
    key: WorkflowKey,
    account: AccountId,
    limit: u32,
    version: i64,
    drawn: u128,
}

/// From here on `galley_now()` is what a table says, for each connection by the
/// number in its URL: the instant it was set to, or else the one that is
/// planned for the next post to take a place.
pub(super) async fn clocks(bed: &Bed, count: usize) {
    bed.execute(&format!(
        "CREATE UNLOGGED TABLE plan (clock integer, n integer, effect_key text NOT NULL,
                                     at timestamptz NOT NULL, PRIMARY KEY (clock, n));
         CREATE UNLOGGED TABLE clocks (clock integer PRIMARY KEY, n integer NOT NULL DEFAULT 0, at timestamptz)
                                      WITH (fillfactor = 10);
         INSERT INTO clocks (clock) SELECT n FROM generate_series(0, {count}) n;
         GRANT SELECT, UPDATE ON clocks, plan TO PUBLIC;
         CREATE FUNCTION my_clock() RETURNS integer LANGUAGE sql STABLE AS
         $$SELECT coalesce(current_setting('galley_test.clock', true), '0')::integer$$;
         CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE AS
         $$SELECT coalesce(c.at, p.at, now()) FROM clocks c LEFT JOIN plan p USING (clock, n) WHERE clock = my_clock()$$;
         CREATE FUNCTION next_post() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN UPDATE clocks SET n = n + 1 WHERE clock = my_clock(); RETURN NULL; END$$;
         CREATE TRIGGER next_post AFTER UPDATE OF quota_held ON publications FOR EACH ROW
         WHEN (NEW.quota_held) EXECUTE FUNCTION next_post();"
    ))
    .await;
}

/// Sets clocks, all at once.
pub(super) async fn set(bed: &Bed, times: impl Iterator<Item = (usize, Timestamp)>) {
    let times: Vec<_> = times.map(|(clock, at)| format!("({clock}, timestamptz '{at}')")).collect();
    let update = "UPDATE clocks SET at = t.at FROM (VALUES ";
    bed.execute(&format!("{update}{}) AS t(clock, at) WHERE clocks.clock = t.clock", times.join(","))).await;
}

impl Counter {
    pub(super) async fn new(bed: &Bed, store: Store, workspace: WorkspaceId, limit: u32) -> Self {
        let key = WorkflowKey { workspace, workflow: WorkflowId(Uuid::now_v7()) };
        bed.execute(&format!(
            "INSERT INTO runs (workspace_id, id, definition_id, version, run)
             VALUES ('{}', '{}', 0, 1, '')",
            key.workspace, key.workflow
        ))
        .await;
        Self { store, key, account: AccountId(Uuid::now_v7()), limit, version: 1, drawn: 0 }
    }

    pub(super) fn workspace(&self) -> WorkspaceId {
        self.key.workspace
    }

    /// Posts that wait for their places, each at an instant; answers with their
    /// effect keys.
    pub(super) async fn plan(&mut self, bed: &Bed, clock: usize, times: &[Timestamp]) -> Vec<String> {
        let WorkflowKey { workspace, workflow } = self.key;
        let keys: Vec<_> = (0..times.len()).map(|n| format!("{workflow}-{n}")).collect();
        let times: Vec<_> = times.iter().map(ToString::to_string).collect();
        bed.execute(&format!(
            "INSERT INTO plan SELECT {clock}, n - 1, effect_key, at
               FROM unnest('{{{}}}'::text[], '{{{}}}'::timestamptz[]) WITH ORDINALITY AS p(effect_key, at, n);
             INSERT INTO publications (workspace_id, effect_key, post_id, workflow_id, step, account_id, state,
                                       revision, content_hash, payload, nonce, intended_at, not_after)
             SELECT '{workspace}', effect_key, gen_random_uuid(), '{workflow}', 0, '{}', 'intent',
                    1, '', '{{}}', 1, at, at FROM plan WHERE clock = {clock}",
            keys.join(","),
            times.join(","),
            self.account
        ))
        .await;
        keys
    }

    /// Planned posts take their places, each at its instant.
    pub(super) async fn take(&mut self, rule: &DayRule, effect_keys: &[String]) -> Result<(), Refused> {
        let takes = effect_keys.iter().map(|key| vec![self.take_one(key, rule)]);
        let takes = takes.collect();
        self.save(takes).await
    }

    /// A post is intended; answers with its effect key, or with why there is no
    /// place for it.
    pub(super) async fn intend(&mut self, rule: &DayRule) -> Result<String, Refused> {
        self.drawn += 1;
        let effect_key = format!("{}-{}", self.key.workflow, self.drawn);
        let intent = IntentWrite {
            effect_key: effect_key.clone(),
            post: PostId(Uuid::from_u128(self.drawn)),
            account: self.account,
            revision: 1,
            content_hash: String::new(),
            payload: "{}".into(),
            approval: None,
            nonce: 1,
            price_micros: 0,
            window_ms: WINDOW_MS,
        };
        let ops = vec![PostOp::Intend(Box::new(intent)), self.take_one(&effect_key, rule)];
        self.save(vec![ops]).await.map(|()| effect_key)
    }

    /// Only the part of an intent that asks for a place; to be refused.
    pub(super) async fn ask(&mut self, rule: &DayRule) -> Result<(), Refused> {
        let take = self.take_one("nobody's", rule);
        self.save(vec![vec![take]]).await
    }

    fn take_one(&self, effect_key: &str, rule: &DayRule) -> PostOp {
        PostOp::TakeQuota {
            effect_key: effect_key.to_owned(),
            takes: vec![QuotaTake { account: None, limit: Some(self.limit) }],
            day: rule.clone(),
            window_ms: WINDOW_MS,
        }
    }

    /// What was intended is definitely not out.
    pub(super) async fn not_sent(&mut self, effect_keys: impl Iterator<Item = &String>) {
        let ops = effect_keys.map(|effect_key| {
            let conclude = PostOp::Conclude {
                effect_key: effect_key.to_owned(),
                state: "not_sent",
                remote_id: None,
                link: None,
                told: None,
                by: None,
            };
            vec![conclude, PostOp::FreeQuota { effect_key: effect_key.to_owned() }]
        });
        let ops = ops.collect();
        self.save(ops).await.unwrap();
    }

    async fn save(&mut self, posts: Vec<Vec<PostOp>>) -> Result<(), Refused> {
        let next = self.version + 1;
        let key = self.key;
        let run = RunWrite { key, expected: self.version, next, running: 0, run: Vec::new(), finished: None };
        let batch = SaveBatch {
            runs: vec![run],
            posts: posts.into_iter().map(|ops| (key, 0, ops)).collect(),
            ..SaveBatch::default()
        };
        match self.store.save(batch).await {
            Ok(won) => {
                assert!(won.contains(&key), "nobody else writes this run");
                self.version = next;
                Ok(())
            }
            Err(StoreError::Overtaken(refused)) => Err(refused),
            Err(error) => panic!("{error}"),
        }
    }
}
