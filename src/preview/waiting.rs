//! Posts that are not out yet: the network shows them beside the timeline, but
//! only somebody else can know them.

use async_trait::async_trait;

/// Where the column "Waiting" comes from.
///
/// It is asked for every view of the page, every two seconds per open tab. An
/// answer that takes longer than a second is given up, and the page says so.
#[async_trait]
pub trait WaitingSource: Send + Sync {
    /// The posts that are not out yet, in the order in which to show them.
    async fn waiting(&self) -> Vec<WaitingPost>;
}

/// A post that is not out yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitingPost {
    /// The handle of the account it is meant for.
    pub account: String,
    /// Its text as it would be published now.
    pub text: String,
    /// Its state in one or two words; underscores become spaces.
    pub state: String,
    /// When it is due: an RFC 3339 timestamp is shown in local time, anything
    /// else as it is. `None`: no slot yet.
    pub slot: Option<String>,
    /// Why it is not out, in one sentence.
    pub reason: String,
    /// The command line that would release it, shown with a copy button.
    pub command: Option<String>,
}
