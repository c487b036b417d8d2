//! Posts: what goes out, to where, and what is known about it.

use galley_core::ids::{ApprovalId, PostId, WorkflowId};
use galley_core::publish;
use galley_engine::store::{PostRow, PublicationEventRow, PublicationRow, RevisionRow};
use galley_engine::{Changed, EngineError, PostView};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::approvals::Approval;
use super::words::PostState;

/// The content of one revision: exactly what goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostContent {
    /// The text, byte for byte.
    pub text: String,
    /// A link that goes with it, where the platform has a place for one.
    #[serde(default)]
    pub link: Option<String>,
}

impl PostContent {
    /// Reads content as it is stored.
    pub(crate) fn stored(json: &str) -> Result<Self, EngineError> {
        serde_json::from_str(json)
            .map_err(|error| EngineError::Internal(format!("a stored post cannot be read: {error}")))
    }
}

impl From<PostContent> for publish::PostContent {
    fn from(content: PostContent) -> Self {
        Self { text: content.text, link: content.link }
    }
}

/// A post in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Post {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: PostId,
    /// The workflow that made it.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// Its publish step: `<workflow id>.<step name>`.
    pub task_id: String,
    /// The name of its account.
    pub account: String,
    /// The account's platform.
    pub platform: String,
    /// Where it stands.
    #[schema(value_type = PostState)]
    pub state: String,
    /// What it waits for, or what ended it.
    pub reason: Option<String>,
    /// The newest revision, from 1.
    pub revision: u32,
    /// The hash of that revision: what approvals are bound to.
    pub content_hash: String,
    /// The content of that revision.
    pub content: PostContent,
    /// When it goes out; absent: as soon as it may.
    #[schema(format = DateTime)]
    pub slot_at: Option<String>,
    /// Who chose that, when it was a person.
    pub slot_by: Option<String>,
    /// Whether it waited for an approval once: loosening the policy does not
    /// release it.
    pub held: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl TryFrom<PostRow> for Post {
    type Error = EngineError;

    fn try_from(row: PostRow) -> Result<Self, EngineError> {
        Ok(Self {
            id: row.id,
            workflow_id: row.workflow,
            task_id: format!("{}.{}", row.workflow, row.step_name),
            account: row.account_name,
            platform: row.platform,
            reason: telling(&row.state, row.reason),
            state: row.state,
            revision: row.revision.unsigned_abs(),
            content_hash: row.content_hash,
            content: PostContent::stored(&row.content)?,
            slot_at: row.slot_at,
            slot_by: row.slot_by,
            held: row.held,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// What was said last about a post, while it still tells something: once it is
/// on its way, its publication and its step say more.
pub(crate) fn telling(state: &str, reason: Option<String>) -> Option<String> {
    use publish::PostState::{Draft, Expired, Rejected, Scheduled, WaitingApproval};
    let tells = [Draft, WaitingApproval, Scheduled, Rejected, Expired];
    reason.filter(|_| tells.iter().any(|tells| tells.word() == state))
}

/// A post with everything about it: its receipt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostDetail {
    /// As in the list.
    #[serde(flatten)]
    pub post: Post,
    /// Every revision, oldest first.
    pub revisions: Vec<PostRevision>,
    /// Every question about it and who answered, oldest first.
    pub approvals: Vec<Approval>,
    /// The one record that it is going out or went out; null while nothing was
    /// meant to be sent.
    pub publication: Option<Publication>,
    /// What happened to the publication, oldest first.
    pub events: Vec<PublicationEvent>,
}

impl TryFrom<PostView> for PostDetail {
    type Error = EngineError;

    fn try_from(view: PostView) -> Result<Self, EngineError> {
        Ok(Self {
            post: view.post.try_into()?,
            revisions: view.revisions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            approvals: view.approvals.into_iter().map(Into::into).collect(),
            publication: view.publication.map(Into::into),
            events: view.events.into_iter().map(Into::into).collect(),
        })
    }
}

/// One revision of a post.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostRevision {
    /// Its number, from 1.
    pub revision: u32,
    /// Its content.
    pub content: PostContent,
    /// The hash of that.
    pub content_hash: String,
    /// Who wrote it: a workflow or a person.
    pub author: String,
    /// When.
    #[schema(format = DateTime)]
    pub created_at: String,
}

impl TryFrom<RevisionRow> for PostRevision {
    type Error = EngineError;

    fn try_from(row: RevisionRow) -> Result<Self, EngineError> {
        Ok(Self {
            revision: row.revision.unsigned_abs(),
            content: PostContent::stored(&row.content)?,
            content_hash: row.content_hash,
            author: row.author,
            created_at: row.created_at,
        })
    }
}

/// The one attempt-safe record that a post is going out or went out.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// `intent`, `unknown`, `in_doubt`, `published`, `not_sent` or `failed`.
    pub state: String,
    /// The key that every attempt carried.
    pub effect_key: String,
    /// The revision that goes out or went out.
    pub revision: u32,
    /// Its hash.
    pub content_hash: String,
    /// Its content, frozen when it was meant to go out.
    #[schema(value_type = PostContent)]
    pub payload: Value,
    /// Which approval let it out; null when the policy did.
    #[schema(value_type = Option<Uuid>)]
    pub approval_id: Option<ApprovalId>,
    /// Calls to the platform.
    pub sends: u32,
    /// When it was first meant to go out.
    #[schema(format = DateTime)]
    pub intended_at: String,
    /// The platform's id of it.
    pub remote_id: Option<String>,
    /// Where people see it.
    pub link: Option<String>,
    /// What was last told about it.
    pub told: Option<String>,
    /// Which person settled it, if one did.
    pub settled_by: Option<String>,
    /// When it was settled.
    #[schema(format = DateTime)]
    pub settled_at: Option<String>,
    /// The day whose limits it counts in.
    #[schema(format = Date)]
    pub quota_day: Option<String>,
    /// Whether it holds a place in them.
    pub quota_held: bool,
    /// What its account said it costs, millionths of a US dollar: drawn from the
    /// budgets; 0: nothing.
    #[serde(default)]
    pub price_micros: u64,
}

impl From<PublicationRow> for Publication {
    fn from(row: PublicationRow) -> Self {
        Self {
            state: row.state,
            effect_key: row.effect_key,
            revision: row.revision.unsigned_abs(),
            content_hash: row.content_hash,
            // Whatever was frozen is shown, even what this release cannot read.
            payload: serde_json::from_str(&row.payload).unwrap_or(Value::String(row.payload)),
            approval_id: row.approval,
            sends: row.sends.unsigned_abs(),
            intended_at: row.intended_at,
            remote_id: row.remote_id,
            link: row.link,
            told: row.told,
            settled_by: row.settled_by,
            settled_at: row.settled_at,
            quota_day: row.quota_day,
            quota_held: row.quota_held,
            price_micros: row.price_micros,
        }
    }
}

/// Something that happened to a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicationEvent {
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// `intent`, `repeated`, or the state it came to.
    pub event: String,
    /// What was told about it.
    pub detail: Option<String>,
}

impl From<PublicationEventRow> for PublicationEvent {
    fn from(row: PublicationEventRow) -> Self {
        Self { at: row.at, event: row.event, detail: row.detail }
    }
}

/// A new revision of a post: its whole content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditPost {
    /// The text.
    pub text: String,
    /// The link; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The revision that was looked at: refused with 409 when there is a newer
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub revision: Option<u32>,
    /// Approves the new revision along with it. Takes the right to approve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approve: bool,
}

/// What an edit did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditedPost {
    /// The post as it stands now.
    #[serde(flatten)]
    pub post: Post,
    /// The question somebody has to answer now; null when nobody has to.
    #[schema(value_type = Option<Uuid>)]
    pub approval_id: Option<ApprovalId>,
}

impl TryFrom<Changed> for EditedPost {
    type Error = EngineError;

    fn try_from(changed: Changed) -> Result<Self, EngineError> {
        Ok(Self { post: changed.post.try_into()?, approval_id: changed.question })
    }
}

/// Another time for a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReschedulePost {
    /// When it goes out (RFC 3339 with an offset); null: the account's slots and
    /// the limits choose.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, format = DateTime)]
    pub at: Option<String>,
}

/// A no, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reject {
    /// Why: shown with the post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a person found out about a post in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolvePost {
    /// What they found out.
    pub resolution: Resolution,
    /// The publication's `sends` when they looked: refused with 409 when it was
    /// sent again since, so that an answer that comes late, or twice, settles
    /// no other doubt.
    #[schema(minimum = 1)]
    pub sends: u32,
    /// The platform's id of it, if they know it; only with `published`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    /// Where it is, if they know it; only with `published`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Whether a post in doubt is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It is there.
    Published,
    /// It is not there: send it.
    NotThere,
    /// It is not there, and shall not be.
    GivenUp,
}

/// A field that may be null and may not be left out.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
