//! What is written about posts in the transaction that moves their step.
//!
//! Each operation either finds what it was decided on, or stops the whole
//! transaction with [`StoreError::Overtaken`]: nothing is half done. Locks are
//! taken in the order run, post, publication, quota, budget.

use galley_core::ids::{AccountId, ApprovalId, PostId, StepIndex, WorkflowKey};
use galley_probe::{Bug, Rescue, seen};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::budgets::signed;
use crate::error::{Overtaken, StoreError};
use crate::ledger::ReserveWrite;
use crate::paying;
use crate::planted::{self, guarded};
use crate::pool::execute;

/// The zones that say which day an instant is in.
#[derive(Clone, Debug)]
pub struct DayRule {
    /// The zone in force.
    pub zone: String,
    /// The one before it, and until when (RFC 3339).
    pub previous: Option<(String, String)>,
}

/// A place in the daily limits.
#[derive(Clone, Debug)]
pub struct QuotaTake {
    /// The account whose place it is; `None`: the workspace's.
    pub account: Option<AccountId>,
    /// Most places of a day; `None`: only counted.
    pub limit: Option<u32>,
}

/// An intent to publish.
#[derive(Clone, Debug)]
pub struct IntentWrite {
    /// The key every attempt carries.
    pub effect_key: String,
    /// The post.
    pub post: PostId,
    /// Its account.
    pub account: AccountId,
    /// The revision that goes out.
    pub revision: i32,
    /// Its hash.
    pub content_hash: String,
    /// Its bytes.
    pub payload: String,
    /// Who said yes.
    pub approval: Option<ApprovalId>,
    /// The claim that may send it.
    pub nonce: u64,
    /// Milliseconds in which it may be sent.
    pub window_ms: u64,
    /// What it costs, millionths of a US dollar.
    pub price_micros: u64,
}

/// One write about a post.
#[derive(Clone, Debug)]
pub enum PostOp {
    /// Nobody changed the post since it was decided on. Locks its row.
    GuardPost {
        /// Which.
        post: PostId,
        /// What was seen.
        version: i32,
    },
    /// Nobody changed the workspace's policy since it was decided on.
    GuardConfig {
        /// What was seen.
        version: i64,
    },
    /// Nobody removed the account.
    GuardAccount {
        /// Which.
        account: AccountId,
    },
    /// A person said yes to these bytes.
    GuardApproval {
        /// The yes.
        approval: ApprovalId,
        /// The bytes.
        content_hash: String,
    },
    /// Ask a person, unless the same question is open. Closes a question about
    /// other bytes.
    Ask {
        /// The question's id.
        approval: ApprovalId,
        /// `post` or `go`.
        kind: &'static str,
        /// The step's name.
        step_name: String,
        /// The post, and its revision.
        post: Option<(PostId, i32)>,
        /// What the answer is bound to.
        content_hash: String,
        /// Why it is asked.
        reason: String,
        /// Seconds until it expires.
        expires_s: i64,
    },
    /// A person answers, or time does.
    Answer {
        /// Which question.
        approval: ApprovalId,
        /// What it was bound to.
        content_hash: String,
        /// `approved`, `rejected`, `expired`.
        status: &'static str,
        /// Who.
        actor: String,
        /// What they said.
        note: Option<String>,
    },
    /// Every open or given answer about the step is void: what it was bound to
    /// changed or is over. Who gave it, and when, stays.
    Void,
    /// A new revision of the post.
    Revise {
        /// Which post.
        post: PostId,
        /// The revision's number.
        revision: i32,
        /// Its content.
        content: String,
        /// Its hash.
        content_hash: String,
        /// Who wrote it.
        author: String,
    },
    /// Another slot.
    Reslot {
        /// Which post.
        post: PostId,
        /// When, RFC 3339; `None`: as soon as the limits allow.
        at: Option<String>,
        /// Who said so.
        by: Option<String>,
    },
    /// What it waits for, for people.
    Reason {
        /// Which post.
        post: PostId,
        /// Why.
        reason: String,
    },
    /// The post's own word for a skipped step.
    End {
        /// Which post.
        post: PostId,
        /// `rejected` or `expired`.
        state: &'static str,
        /// Why.
        reason: String,
    },
    /// Take a place of today in every limit, or in none.
    TakeQuota {
        /// Whose publication holds it.
        effect_key: String,
        /// Which limits.
        takes: Vec<QuotaTake>,
        /// What a day is.
        day: DayRule,
        /// Nothing is sent in the last milliseconds of a day.
        window_ms: u64,
    },
    /// From here on the post may be out.
    Intend(Box<IntentWrite>),
    /// It is sent once more, with the same key.
    Repeat {
        /// Which.
        effect_key: String,
        /// The claim that may send it.
        nonce: u64,
        /// Milliseconds in which it may be sent.
        window_ms: u64,
        /// Seconds the platform keeps the key, from the first call of which
        /// nobody knew the outcome. The window has to fit in.
        key_kept_s: u64,
    },
    /// What became of it.
    Conclude {
        /// Which.
        effect_key: String,
        /// `published`, `not_sent`, `failed`, `unknown`, `in_doubt`.
        state: &'static str,
        /// The platform's id.
        remote_id: Option<String>,
        /// Where people see it.
        link: Option<String>,
        /// What was told.
        told: Option<String>,
        /// Who found out, when it was a person.
        by: Option<String>,
    },
    /// It is definitely not out: its place is free again.
    FreeQuota {
        /// Whose.
        effect_key: String,
    },
    /// Reserve what it costs, where every budget has room. Locks counters, so
    /// it comes after everything else.
    Reserve(Box<ReserveWrite>),
    /// What it came to. Locks counters, so it comes after everything else.
    Settle {
        /// Millionths of a US dollar; `None`: nobody can know, it is charged at
        /// what was reserved.
        cost: Option<u64>,
    },
}

/// Writes in order; the first that finds something else than it was decided
/// on stops the transaction.
pub(crate) async fn write(
    connection: &mut PgConnection,
    key: WorkflowKey,
    step: StepIndex,
    ops: &[PostOp],
) -> Result<(), StoreError> {
    for op in ops {
        write_one(connection, key, step, op).await?;
    }
    Ok(())
}

async fn found(
    connection: &mut PgConnection,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    what: Overtaken,
) -> Result<(), StoreError> {
    if execute(connection, query).await? == 0 { Err(StoreError::Overtaken(what)) } else { Ok(()) }
}

async fn write_one(
    connection: &mut PgConnection,
    key: WorkflowKey,
    step: StepIndex,
    op: &PostOp,
) -> Result<(), StoreError> {
    let workspace = key.workspace.0;
    match op {
        PostOp::GuardPost { post, version } => {
            let guard = sqlx::query(
                "SELECT 1 FROM posts WHERE workspace_id = $1 AND id = $2 AND version = $3 FOR UPDATE",
            );
            found(connection, guard.bind(workspace).bind(post.0).bind(version), Overtaken::Post).await
        }
        PostOp::GuardConfig { version } => {
            let now = config_version(connection, workspace).await?;
            if now == *version { Ok(()) } else { Err(StoreError::Overtaken(Overtaken::Config)) }
        }
        PostOp::GuardAccount { account } => {
            // Shared, as the policy is: removing the account waits for intents.
            let guard = sqlx::query(
                "SELECT 1 FROM accounts WHERE workspace_id = $1 AND id = $2 AND removed_at IS NULL FOR SHARE",
            );
            found(connection, guard.bind(workspace).bind(account.0), Overtaken::Account).await
        }
        PostOp::GuardApproval { approval, content_hash } => {
            let guard = guarded(
                "SELECT 1 FROM approvals
                  WHERE workspace_id = $1 AND id = $2 AND content_hash = $3 AND status = 'approved' FOR SHARE",
                Bug::ApprovalNotBound,
                "content_hash = $3",
                "$3::text IS NOT NULL",
            );
            let guard = guard.bind(workspace).bind(approval.0).bind(content_hash);
            found(connection, guard, Overtaken::Approval).await
        }
        PostOp::Ask { .. } => ask(connection, key, step, op).await,
        PostOp::Answer { approval, content_hash, status, actor, note } => {
            // A yes in the moment between its time and its sweep is too late.
            // Four eyes: decided here, where it is written, by the policy as it
            // stands now.
            let answer = guarded(
                "UPDATE approvals SET status = $4, decided_by = $5, decided_at = galley_now(), note = $6
                  WHERE workspace_id = $1 AND id = $2 AND content_hash = $3 AND status = 'pending'
                    AND ($4 <> 'approved' OR expires_at > galley_now())
                    AND ($4 <> 'approved' OR NOT EXISTS (
                        SELECT 1 FROM automation p
                         WHERE p.workspace_id = $1 AND p.config->>'fourEyes' = 'true'
                           AND (starts_with($5, 'key:')
                                OR EXISTS (SELECT 1 FROM workflows w
                                            WHERE w.workspace_id = $1 AND w.id = approvals.workflow_id
                                              AND w.created_by = $5)
                                OR EXISTS (SELECT 1 FROM post_revisions r
                                            WHERE r.workspace_id = $1 AND r.post_id = approvals.post_id
                                              AND r.revision = approvals.revision AND r.author = $5))))",
                Bug::ExpiredApprovalCounts,
                "OR expires_at > galley_now()",
                "OR true",
            )
            .bind(workspace)
            .bind(approval.0)
            .bind(content_hash)
            .bind(status)
            .bind(actor)
            .bind(note);
            found(connection, answer, Overtaken::Approval).await
        }
        PostOp::Void => {
            let void = sqlx::query(
                "UPDATE approvals SET status = 'void', decided_at = coalesce(decided_at, galley_now())
                  WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3
                    AND status IN ('pending', 'approved')",
            );
            let voided =
                execute(connection, void.bind(workspace).bind(key.workflow.0).bind(step as i16)).await?;
            if voided > 0 {
                seen(Rescue::ApprovalVoided);
            }
            Ok(())
        }
        PostOp::Revise { post, revision, content, content_hash, author } => {
            let insert = sqlx::query(
                "INSERT INTO post_revisions (workspace_id, post_id, revision, content, content_hash, author)
                 VALUES ($1, $2, $3, $4::json, $5, $6)",
            )
            .bind(workspace)
            .bind(post.0)
            .bind(revision)
            .bind(content)
            .bind(content_hash)
            .bind(author);
            execute(connection, insert).await?;
            let update = sqlx::query(
                "UPDATE posts SET revision = $3, content_hash = $4, version = version + 1,
                        updated_at = galley_now()
                  WHERE workspace_id = $1 AND id = $2",
            );
            let update = update.bind(workspace).bind(post.0).bind(revision).bind(content_hash);
            found(connection, update, Overtaken::Post).await
        }
        PostOp::Reslot { post, at, by } => {
            let update = sqlx::query(
                "UPDATE posts SET slot_at = $3::timestamptz, slot_by = $4, version = version + 1,
                        updated_at = galley_now()
                  WHERE workspace_id = $1 AND id = $2",
            );
            found(connection, update.bind(workspace).bind(post.0).bind(at).bind(by), Overtaken::Post).await
        }
        PostOp::Reason { post, reason } => {
            let update = sqlx::query(
                "UPDATE posts SET reason = $3, updated_at = galley_now() WHERE workspace_id = $1 AND id = $2",
            );
            execute(connection, update.bind(workspace).bind(post.0).bind(reason)).await?;
            Ok(())
        }
        PostOp::End { post, state, reason } => {
            let update = sqlx::query(
                "UPDATE posts SET state = $3, reason = $4, slot_at = NULL, version = version + 1,
                        updated_at = galley_now()
                  WHERE workspace_id = $1 AND id = $2",
            );
            found(connection, update.bind(workspace).bind(post.0).bind(state).bind(reason), Overtaken::Post)
                .await
        }
        PostOp::TakeQuota { effect_key, takes, day, window_ms } => {
            take_quota(connection, workspace, effect_key, takes, day, *window_ms).await
        }
        PostOp::Intend(intent) => intend(connection, key, step, intent).await,
        PostOp::Repeat { effect_key, nonce, window_ms, key_kept_s } => {
            let repeat = sqlx::query(
                "UPDATE publications
                    SET state = 'intent', nonce = $3, sends = sends + 1,
                        not_after = galley_now() + $4 * interval '1 ms'
                  WHERE workspace_id = $1 AND effect_key = $2 AND state IN ('intent', 'unknown')
                    AND first_sent_at + $5 * interval '1 s' >= galley_now() + $4 * interval '1 ms'",
            )
            .bind(workspace)
            .bind(effect_key)
            .bind(*nonce as i64)
            .bind(*window_ms as i64)
            .bind(i64::try_from(*key_kept_s).unwrap_or(i64::MAX));
            found(connection, repeat, Overtaken::Publication).await?;
            tell_use(connection, workspace, effect_key, "repeated", None).await
        }
        PostOp::Conclude { effect_key, state, remote_id, link, told, by } => {
            let conclude = sqlx::query(
                "UPDATE publications
                    SET state = $3, remote_id = $4, link = $5, told = $6, settled_by = $7,
                        settled_at = CASE WHEN $3 IN ('published', 'failed') THEN galley_now() END
                  WHERE workspace_id = $1 AND effect_key = $2 AND state IN ('intent', 'unknown', 'in_doubt')",
            )
            .bind(workspace)
            .bind(effect_key)
            .bind(state)
            .bind(remote_id)
            .bind(link)
            .bind(told)
            .bind(by);
            found(connection, conclude, Overtaken::Publication).await?;
            tell(connection, workspace, effect_key, state, told.as_deref()).await
        }
        PostOp::FreeQuota { effect_key } => free_quota(connection, workspace, effect_key).await,
        PostOp::Reserve(reserve) => paying::reserve_for_post(connection, reserve).await,
        PostOp::Settle { cost } => paying::settle_post(connection, key, step, *cost).await,
    }
}

/// The version of the workspace's policy, which nobody changes before this
/// transaction is over. Locked as shared: intents do not wait for each other,
/// but a change waits for them, and they for it.
async fn config_version(connection: &mut PgConnection, workspace: Uuid) -> Result<i64, StoreError> {
    let version = "SELECT version FROM automation WHERE workspace_id = $1 FOR SHARE";
    if let Some(row) = sqlx::query(version).bind(workspace).fetch_optional(&mut *connection).await? {
        return Ok(row.try_get(0)?);
    }
    // A policy that nobody set has no row to lock. Whoever sets the first one
    // locks the workspace's, and may have done so since the look above.
    let absent = sqlx::query("SELECT 1 FROM workspaces WHERE id = $1 FOR SHARE").bind(workspace);
    execute(&mut *connection, absent).await?;
    let row = sqlx::query(version).bind(workspace).fetch_optional(connection).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}

async fn ask(
    connection: &mut PgConnection,
    key: WorkflowKey,
    step: StepIndex,
    op: &PostOp,
) -> Result<(), StoreError> {
    let PostOp::Ask { approval, kind, step_name, post, content_hash, reason, expires_s } = op else {
        return Ok(());
    };
    let void = sqlx::query(
        "UPDATE approvals SET status = 'void', decided_at = galley_now()
          WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND status = 'pending'
            AND content_hash <> $4",
    );
    let void = void.bind(key.workspace.0).bind(key.workflow.0).bind(step as i16).bind(content_hash);
    execute(connection, void).await?;
    let insert = sqlx::query(
        "INSERT INTO approvals (workspace_id, id, kind, workflow_id, step, step_name, post_id, revision,
                                content_hash, reason, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, galley_now() + $11 * interval '1 s')
         ON CONFLICT (workspace_id, workflow_id, step) WHERE status = 'pending' DO NOTHING",
    )
    .bind(key.workspace.0)
    .bind(approval.0)
    .bind(kind)
    .bind(key.workflow.0)
    .bind(step as i16)
    .bind(step_name)
    .bind(post.map(|(post, _)| post.0))
    .bind(post.map(|(_, revision)| revision))
    .bind(content_hash)
    .bind(reason)
    .bind(expires_s);
    execute(connection, insert).await?;
    if let Some((post, _)) = post {
        // Whoever decided before that nobody has to be asked decides again.
        let held = sqlx::query(
            "UPDATE posts SET held = true, reason = $3, version = version + 1, updated_at = galley_now()
              WHERE workspace_id = $1 AND id = $2",
        );
        execute(connection, held.bind(key.workspace.0).bind(post.0).bind(reason)).await?;
    }
    Ok(())
}

async fn intend(
    connection: &mut PgConnection,
    key: WorkflowKey,
    step: StepIndex,
    intent: &IntentWrite,
) -> Result<(), StoreError> {
    // One publication per post for ever: a second insert meets the unique key
    // and becomes a re-arming, which only `not_sent` and `failed` (replayed by
    // a person) allow.
    let insert = sqlx::query(
        "INSERT INTO publications AS p
                (workspace_id, effect_key, post_id, workflow_id, step, account_id, state, revision,
                 content_hash, payload, approval_id, nonce, sends, intended_at, first_sent_at, not_after,
                 price_micros)
         VALUES ($1, $2, $3, $4, $5, $6, 'intent', $7, $8, $9::json, $10, $11, 1, galley_now(), galley_now(),
                 galley_now() + $12 * interval '1 ms', $13)
         ON CONFLICT (workspace_id, effect_key) DO UPDATE
            SET state = 'intent', revision = excluded.revision, content_hash = excluded.content_hash,
                payload = excluded.payload, approval_id = excluded.approval_id, nonce = excluded.nonce,
                sends = p.sends + 1, first_sent_at = galley_now(), not_after = excluded.not_after, told = NULL,
                price_micros = excluded.price_micros
          WHERE p.state IN ('not_sent', 'failed')",
    )
    .bind(key.workspace.0)
    .bind(&intent.effect_key)
    .bind(intent.post.0)
    .bind(key.workflow.0)
    .bind(step as i16)
    .bind(intent.account.0)
    .bind(intent.revision)
    .bind(&intent.content_hash)
    .bind(&intent.payload)
    .bind(intent.approval.map(|approval| approval.0))
    .bind(intent.nonce as i64)
    .bind(intent.window_ms as i64)
    .bind(signed(intent.price_micros));
    found(connection, insert, Overtaken::Publication).await?;
    let told = format!("revision {}", intent.revision);
    tell_use(connection, key.workspace.0, &intent.effect_key, "intent", Some(&told)).await
}

/// [`tell`] of a call that is about to be made with the account's credential:
/// the audit says so in the same statement.
async fn tell_use(
    connection: &mut PgConnection,
    workspace: Uuid,
    effect_key: &str,
    event: &str,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "WITH told AS (
             INSERT INTO publication_events (workspace_id, effect_key, event, detail) VALUES ($1, $2, $3, $4)
         )
         INSERT INTO audit (workspace_id, actor, action, object, detail)
         SELECT p.workspace_id, 'publisher', 'account.use', c.name,
                json_build_object('post', p.post_id, 'for', $3)
           FROM publications p JOIN accounts c ON c.workspace_id = p.workspace_id AND c.id = p.account_id
          WHERE p.workspace_id = $1 AND p.effect_key = $2",
    );
    execute(connection, insert.bind(workspace).bind(effect_key).bind(event).bind(detail)).await?;
    Ok(())
}

async fn tell(
    connection: &mut PgConnection,
    workspace: Uuid,
    effect_key: &str,
    event: &str,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO publication_events (workspace_id, effect_key, event, detail) VALUES ($1, $2, $3, $4)",
    );
    execute(connection, insert.bind(workspace).bind(effect_key).bind(event).bind(detail)).await?;
    Ok(())
}

/// The day of an instant by the rule bound to `$zone, $previous, $since`.
pub(crate) fn day_of(instant: &str, first: usize) -> String {
    let [zone, previous, since] = [first, first + 1, first + 2].map(|place| format!("${place}"));
    day_in(instant, &zone, &previous, &since)
}

/// The day of an instant where the zone was `previous` until `since`.
pub(crate) fn day_in(instant: &str, zone: &str, previous: &str, since: &str) -> String {
    format!(
        "({instant} AT TIME ZONE CASE WHEN {instant} < {since}::timestamptz THEN {previous} ELSE {zone} END)::date"
    )
}

async fn take_quota(
    connection: &mut PgConnection,
    workspace: Uuid,
    effect_key: &str,
    takes: &[QuotaTake],
    rule: &DayRule,
    window_ms: u64,
) -> Result<(), StoreError> {
    let (previous, since) = match &rule.previous {
        Some((zone, since)) => (zone.as_str(), since.as_str()),
        None => (rule.zone.as_str(), "-infinity"),
    };
    let today = day_of("galley_now()", 1);
    let later = day_of("(galley_now() + $4 * interval '1 ms')", 1);
    // What is begun in the last moments of a day could go out on the next.
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {today}::text, {today} = {later}")))
        .bind(&rule.zone)
        .bind(previous)
        .bind(since)
        .bind(window_ms as i64)
        .fetch_one(&mut *connection)
        .await?;
    let (day, same): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !same {
        return Err(StoreError::Overtaken(Overtaken::DayEnds));
    }
    let mut scopes: Vec<(Uuid, i32)> = takes
        .iter()
        .map(|take| {
            let limit = take.limit.map_or(i32::MAX, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
            (take.account.map_or(Uuid::nil(), |account| account.0), limit)
        })
        .collect();
    // One order for everybody: no deadlock between two intents.
    scopes.sort_unstable();
    for (scope, limit) in scopes {
        let row = sqlx::query(
            "INSERT INTO day_quota (workspace_id, account_id, day) VALUES ($1, $2, $3::date)
             ON CONFLICT DO NOTHING",
        );
        execute(connection, row.bind(workspace).bind(scope).bind(&day)).await?;
        let limit = planted::limit(connection, workspace, scope, &day, limit).await?;
        let take = sqlx::query(
            "UPDATE day_quota SET used = used + 1
              WHERE workspace_id = $1 AND account_id = $2 AND day = $3::date AND used < $4",
        );
        let take = take.bind(workspace).bind(scope).bind(&day).bind(limit);
        found(connection, take, Overtaken::DayFull).await?;
    }
    // The publication's row is written by the operation before this one.
    let hold = sqlx::query(
        "UPDATE publications SET quota_day = $3::date, quota_held = true
          WHERE workspace_id = $1 AND effect_key = $2 AND NOT quota_held",
    );
    found(connection, hold.bind(workspace).bind(effect_key).bind(&day), Overtaken::Publication).await
}

async fn free_quota(
    connection: &mut PgConnection,
    workspace: Uuid,
    effect_key: &str,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE publications SET quota_held = false
          WHERE workspace_id = $1 AND effect_key = $2 AND quota_held
      RETURNING quota_day::text, account_id",
    )
    .bind(workspace)
    .bind(effect_key)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let (day, account): (String, Uuid) = (row.try_get(0)?, row.try_get(1)?);
    for scope in [Uuid::nil(), account] {
        let free = sqlx::query(
            "UPDATE day_quota SET used = used - 1
              WHERE workspace_id = $1 AND account_id = $2 AND day = $3::date",
        );
        execute(connection, free.bind(workspace).bind(scope).bind(&day)).await?;
    }
    Ok(())
}

/// Keeps posts in step with their publish steps.
pub(crate) async fn follow(
    connection: &mut PgConnection,
    states: &[&(WorkflowKey, StepIndex, &'static str)],
) -> Result<(), StoreError> {
    for (key, step, state) in states {
        let update = sqlx::query(
            "UPDATE posts SET state = $4, updated_at = galley_now()
              WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND state <> $4",
        );
        let update = update.bind(key.workspace.0).bind(key.workflow.0).bind(*step as i16).bind(state);
        execute(connection, update).await?;
    }
    Ok(())
}

/// No question about a workflow that was cancelled is open any more.
pub(crate) async fn void_questions(
    connection: &mut PgConnection,
    workflows: &[&WorkflowKey],
) -> Result<(), StoreError> {
    for key in workflows {
        let void = sqlx::query(
            "UPDATE approvals SET status = 'void', decided_at = galley_now()
              WHERE workspace_id = $1 AND workflow_id = $2 AND status = 'pending'",
        );
        execute(connection, void.bind(key.workspace.0).bind(key.workflow.0)).await?;
    }
    Ok(())
}
