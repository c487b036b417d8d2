//! Somebody who takes places of a day: what an intent writes, and nothing else
//! of publishing.

use galley_core::ids::{AccountId, PostId, WorkflowId, WorkflowKey, WorkspaceId};
use galley_engine::store::{DayRule, IntentWrite, PostOp, QuotaTake, RunWrite, SaveBatch, Store, StoreError};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Refused, WINDOW_MS};
use crate::harness::Bed;

/// A workspace whose one workflow intends post after post.
pub(super) struct Counter {
    store: Store,
    key: WorkflowKey,
    account: AccountId,
    limit: u32,
    version: i64,
    drawn: u128,
}

/// From here on `galley_now()` is what a table says, for each connection by the
/// number in its URL.
pub(super) async fn clocks(bed: &Bed, count: usize) {
    bed.execute(&format!(
        "CREATE UNLOGGED TABLE clocks (n integer PRIMARY KEY, at timestamptz NOT NULL) WITH (fillfactor = 10);
         INSERT INTO clocks SELECT n, 'epoch' FROM generate_series(0, {count}) n;
         CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE AS
         $$SELECT at FROM clocks WHERE n = coalesce(current_setting('galley_test.clock', true), '0')::integer$$"
    ))
    .await;
}

/// Sets clocks, all at once.
pub(super) async fn set(bed: &Bed, times: impl Iterator<Item = (usize, Timestamp)>) {
    let times: Vec<_> = times.map(|(n, at)| format!("({n}, timestamptz '{at}')")).collect();
    let update = "UPDATE clocks SET at = t.at FROM (VALUES ";
    bed.execute(&format!("{update}{}) AS t(n, at) WHERE clocks.n = t.n", times.join(","))).await;
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
            window_ms: WINDOW_MS,
        };
        let ops = vec![PostOp::Intend(Box::new(intent)), self.take(&effect_key, rule)];
        self.save(ops).await.map(|()| effect_key)
    }

    /// Only the part of an intent that asks for a place; to be refused.
    pub(super) async fn ask(&mut self, rule: &DayRule) -> Result<(), Refused> {
        let take = self.take("nobody's", rule);
        self.save(vec![take]).await
    }

    fn take(&self, effect_key: &str, rule: &DayRule) -> PostOp {
        PostOp::TakeQuota {
            effect_key: effect_key.to_owned(),
            takes: vec![
                QuotaTake { account: None, limit: Some(self.limit) },
                QuotaTake { account: Some(self.account), limit: None },
            ],
            day: rule.clone(),
            window_ms: WINDOW_MS,
        }
    }

    /// What was intended is definitely not out.
    pub(super) async fn not_sent(&mut self, effect_key: &str) {
        let conclude = PostOp::Conclude {
            effect_key: effect_key.to_owned(),
            state: "not_sent",
            remote_id: None,
            link: None,
            told: None,
            by: None,
        };
        let free = PostOp::FreeQuota { effect_key: effect_key.to_owned() };
        self.save(vec![conclude, free]).await.unwrap();
    }

    async fn save(&mut self, ops: Vec<PostOp>) -> Result<(), Refused> {
        let next = self.version + 1;
        let key = self.key;
        let run = RunWrite { key, expected: self.version, next, running: 0, run: Vec::new(), finished: None };
        let batch = SaveBatch { runs: vec![run], posts: vec![(key, 0, ops)], ..SaveBatch::default() };
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
