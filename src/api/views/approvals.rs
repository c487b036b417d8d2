//! Approvals: questions to people, each bound to the bytes that were shown.

use galley_core::ids::{ApprovalId, PostId, WorkflowId};
use galley_engine::store::ApprovalRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::posts::PostContent;
use super::words::ApprovalStatus;

/// A question to a person, and its answer once there is one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ApprovalId,
    /// `post`: may these bytes go out; `go`: may this step run with this input.
    pub kind: String,
    /// The workflow it is about.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// The step that waits for it: `<workflow id>.<step name>`.
    pub task_id: String,
    /// The post, if it is about one.
    #[schema(value_type = Option<Uuid>)]
    pub post_id: Option<PostId>,
    /// The revision of that post.
    pub revision: Option<u32>,
    /// The hash of what is shown: the answer holds for exactly these bytes.
    pub content_hash: String,
    /// Why it is asked.
    pub reason: String,
    /// Where it stands.
    #[schema(value_type = ApprovalStatus)]
    pub status: String,
    /// When it was asked.
    #[schema(format = DateTime)]
    pub asked_at: String,
    /// When it expires unless somebody answers.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// Who answered.
    pub decided_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub decided_at: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

impl From<ApprovalRow> for Approval {
    fn from(row: ApprovalRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            workflow_id: row.workflow,
            task_id: format!("{}.{}", row.workflow, row.step_name),
            post_id: row.post.map(|(post, _)| post),
            revision: row.post.map(|(_, revision)| revision.unsigned_abs()),
            content_hash: row.content_hash,
            reason: row.reason,
            status: row.status,
            asked_at: row.asked_at,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            decided_at: row.decided_at,
            note: row.note,
        }
    }
}

/// A question with what it is about.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalDetail {
    /// As in the list.
    #[serde(flatten)]
    pub approval: Approval,
    /// The name of the post's account.
    pub account: Option<String>,
    /// That account's platform.
    pub platform: Option<String>,
    /// The content of the revision it is about: what a yes lets out.
    pub content: Option<PostContent>,
    /// The input of the step, when the question is whether it may run.
    pub input: Option<Value>,
}

/// A yes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approve {
    /// The hash of what was seen: refused with 409 when the question is about
    /// something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// What to say along with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
