//! The shortcuts through the publish path. Each breaks a promise;
//! `tests/searches` demands the counterexample.

use crate::named::shortcuts;

shortcuts! {
    /// An approval is of the post, whatever its bytes are.
    ApprovalNotBound,
    /// An edit looks at the post alone, not at the intent in the run.
    EditIgnoresIntent,
    /// Cancel ends a post whose intent is open.
    CancelIgnoresIntent,
    /// A time limit of a question writes what it decided on what it read.
    ExpiryWithoutCompare,
    /// The intent does not compare the policy's version.
    PolicyNotCompared,
    /// Loosening the policy lets out what waits for an approval.
    LooseningReleases,
    /// The limit is counted when the post is judged, then inserted.
    QuotaCounted,
    /// The places are taken in a transaction of their own, before the intent.
    QuotaOutsideIntent,
    /// The places are taken one after the other: the first stays taken when
    /// the second is refused.
    QuotaInParts,
    /// An unknown outcome gives the place back.
    UnknownFreesPlace,
    /// What was definitely not sent keeps its place.
    NotSentKeepsPlace,
    /// A refusal of a repetition is taken for the outcome of the post.
    RefusalOfRepeatCounts,
    /// A blind platform is told again.
    BlindRepeated,
    /// A key is used after the platform forgot it.
    KeyWindowIgnored,
    /// The key's window is looked at when judging, not in the transaction.
    KeyWindowReadBefore,
    /// The key's window is used to its very end: no time is left for sending.
    KeyWindowToItsEnd,
    /// Whoever looks does not wait for `not_after` and the timeout.
    AbsentTooEarly,
    /// What is found not to be there is sent again at once, past the policy,
    /// the limits and a cancel.
    AbsentSentAtOnce,
    /// An unknown post is repeated although its workflow was cancelled.
    RepeatAfterCancel,
    /// A publisher sends however late it is.
    SendsAfterNotAfter,
    /// A recognised intent gets a new window.
    RecognisedStartsOver,
    /// Whether there is money is read when the post is judged.
    RoomReadBefore,
    /// A post's money is charged by its worker's session, as a call's is: what
    /// a lost worker reserved is free again.
    LostWorkerFreesMoney,
    /// What only a person can find out costs nothing until they do.
    DoubtIsFree,
    /// What was definitely not sent stays reserved.
    NotSentKeepsMoney,
    /// A post that an edit makes cheaper waits on for what it cost before.
    EditLeavesWait,
}
