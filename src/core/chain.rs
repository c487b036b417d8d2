//! The audit's chain: each sealed row is hashed together with the hash before
//! it, so that no row can be changed, removed or put between two others later
//! without breaking a link. This is the one place that says what is hashed, and
//! the one that looks for what does not hold.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::hash;
use crate::ids::WorkspaceId;

/// The hash of a link.
pub type Hash = [u8; 32];

/// What stands before the first link of a chain.
pub const BEGINNING: Hash = [0; 32];

/// How much later than others a row may come into the chain. It comes when its
/// transaction commits, and those take seconds.
const LATEST: SignedDuration = SignedDuration::from_mins(10);

/// An audit row: everything about it is hashed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainedRow {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// More, as the very text that is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<RawValue>>,
    /// The request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The hash of what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_hash: Option<String>,
    /// The hash of what is there since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_hash: Option<String>,
}

/// A place in the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Its number, from 1 without a gap.
    pub seq: u64,
    /// The hash of everything up to here, hexadecimal.
    pub hash: String,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Which row it seals.
    pub row_id: i64,
    /// The row; absent when it is not there any more.
    pub row: Option<ChainedRow>,
}

/// Where a chain ended at some moment. Kept elsewhere, it proves that nothing
/// up to there was changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Whose chain.
    pub workspace_id: WorkspaceId,
    /// Its last link; 0 when there is none.
    pub seq: u64,
    /// That link's hash, hexadecimal.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// Who signed it: an Ed25519 key, hexadecimal. Absent: nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The signature of [`Checkpoint::message`], hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Checkpoint {
    /// What is signed.
    pub fn message(&self) -> String {
        let Self { workspace_id, seq, hash, at, .. } = self;
        format!("galley audit checkpoint 1\n{workspace_id}\n{seq}\n{hash}\n{at}\n")
    }
}

/// One line of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExportLine {
    /// The first line: whose audit this is.
    Export(ExportHead),
    /// A place in the chain, in order.
    Link(Link),
    /// A row that is in no place yet.
    Unsealed(ChainedRow),
    /// The last line: where the chain ended when the export began.
    Checkpoint(Checkpoint),
}

/// The first line of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportHead {
    /// How it is written: 1.
    pub format: u32,
    /// Whose.
    pub workspace_id: WorkspaceId,
}

/// The hash of a link.
pub fn link(
    previous: &Hash,
    workspace: WorkspaceId,
    seq: u64,
    sealed_at: Timestamp,
    row: &ChainedRow,
) -> Hash {
    // An absent text is not an empty one.
    let optional = |text: Option<&str>| text.map_or_else(Vec::new, |text| [b"+", text.as_bytes()].concat());
    hash::of_parts(&[
        b"galley audit 1",
        previous,
        workspace.0.as_bytes(),
        &seq.to_be_bytes(),
        &sealed_at.as_microsecond().to_be_bytes(),
        &row.id.to_be_bytes(),
        &row.at.as_microsecond().to_be_bytes(),
        row.actor.as_bytes(),
        row.action.as_bytes(),
        row.object.as_bytes(),
        &optional(row.detail.as_deref().map(RawValue::get)),
        &optional(row.request_id.as_deref()),
        &optional(row.before_hash.as_deref()),
        &optional(row.after_hash.as_deref()),
    ])
}

/// Something that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The place in the chain.
    pub seq: Option<u64>,
    /// The row.
    pub row_id: Option<i64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seq, self.row_id) {
            (Some(seq), Some(row)) => write!(f, "place {seq}, row {row}: {}", self.what),
            (Some(seq), None) => write!(f, "place {seq}: {}", self.what),
            (None, Some(row)) => write!(f, "row {row}: {}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

/// Reads an export line by line and says what does not hold.
#[derive(Debug, Default)]
pub struct Verifier {
    workspace: Option<WorkspaceId>,
    /// Hashes that the chain is known to have had, by place.
    known: BTreeMap<u64, String>,
    seq: u64,
    /// The hash of the last place; `None` where a place is missing.
    hash: Option<Hash>,
    /// The latest time of any row so far.
    latest: Option<Timestamp>,
    /// Rows in no place, to be judged when the whole chain is known.
    unsealed: u64,
    checkpoint: Option<Checkpoint>,
    findings: Vec<Finding>,
}

impl Verifier {
    /// A verifier that has read nothing.
    pub fn new() -> Self {
        Self { hash: Some(BEGINNING), ..Self::default() }
    }

    /// The chain has to pass through this place, too: a checkpoint that was kept
    /// elsewhere.
    pub fn expect(&mut self, checkpoint: &Checkpoint) {
        if checkpoint.seq > 0 {
            self.known.insert(checkpoint.seq, checkpoint.hash.clone());
        }
        match self.workspace {
            None => self.workspace = Some(checkpoint.workspace_id),
            Some(workspace) if workspace != checkpoint.workspace_id => {
                self.find(None, None, "the checkpoint is of another workspace");
            }
            Some(_) => {}
        }
    }

    /// Reads a line.
    pub fn read(&mut self, line: ExportLine) {
        match line {
            ExportLine::Export(head) => match self.workspace {
                Some(known) if known != head.workspace_id => {
                    self.find(None, None, "the checkpoint is of another workspace");
                }
                _ => self.workspace = Some(head.workspace_id),
            },
            ExportLine::Link(link) => self.link(&link),
            ExportLine::Unsealed(row) => self.unsealed(&row),
            ExportLine::Checkpoint(checkpoint) => self.checkpoint(checkpoint),
        }
    }

    /// A line that is none.
    pub fn garbage(&mut self, number: usize, why: &str) {
        self.find(None, None, &format!("line {number} cannot be read: {why}"));
    }

    fn link(&mut self, place: &Link) {
        let next = self.seq + 1;
        if place.seq > next {
            let missing = if place.seq == next + 1 {
                "its seal was removed".to_owned()
            } else {
                format!("the seals up to place {} were removed", place.seq - 1)
            };
            self.find(Some(next), None, &missing);
            self.hash = None;
        } else if place.seq < next {
            self.find(Some(place.seq), Some(place.row_id), "there is more than one seal of this place");
        }
        self.seq = self.seq.max(place.seq);
        let told: Option<Hash> = hex::decode(&place.hash).ok().and_then(|hash| hash.try_into().ok());
        match &place.row {
            None => self.find(Some(place.seq), Some(place.row_id), "the row was removed"),
            Some(row) => {
                let workspace = self.workspace.unwrap_or(WorkspaceId(uuid::Uuid::nil()));
                let holds = |previous: &Hash| {
                    told == Some(link(previous, workspace, place.seq, place.sealed_at, row))
                        && row.id == place.row_id
                };
                // Behind a gap nobody knows what stood there.
                if self.hash.is_some_and(|previous| !holds(&previous)) {
                    let what = "the row or its seal was changed after it was sealed";
                    self.find(Some(place.seq), Some(row.id), what);
                } else {
                    if self.is_late(row) {
                        let what =
                            "it came into the chain long after others of its time: it was inserted later";
                        self.find(Some(place.seq), Some(row.id), what);
                    }
                    // A forged time says nothing about other rows.
                    self.latest = self.latest.max(Some(row.at));
                }
            }
        }
        if let Some(known) = self.known.remove(&place.seq)
            && known != place.hash
        {
            let what = "the checkpoint has another hash: the chain was rewritten here or before";
            self.find(Some(place.seq), None, what);
        }
        // Each link is judged by the one before it as it is: one change is one
        // finding, not all that follow.
        self.hash = told;
    }

    fn unsealed(&mut self, row: &ChainedRow) {
        if self.is_late(row) {
            let what = "it is in no place although later rows are: it was inserted, or its seal was removed";
            self.find(None, Some(row.id), what);
        } else {
            self.unsealed += 1;
        }
    }

    fn is_late(&self, row: &ChainedRow) -> bool {
        self.latest.is_some_and(|latest| latest.duration_since(row.at) > LATEST)
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let end = self.hash.map(hex::encode);
        if checkpoint.seq > self.seq {
            let what = format!("the seals up to place {} were removed", checkpoint.seq);
            self.find(Some(self.seq + 1), None, &what);
        } else if checkpoint.seq == self.seq
            && checkpoint.seq > 0
            && end.as_deref() != Some(&*checkpoint.hash)
        {
            self.find(Some(self.seq), None, "the chain does not end with the hash that the head has");
        } else if checkpoint.seq < self.seq {
            self.find(Some(checkpoint.seq + 1), None, "there are seals behind the end of the chain");
        }
        self.checkpoint = Some(checkpoint);
    }

    fn find(&mut self, seq: Option<u64>, row_id: Option<i64>, what: &str) {
        self.findings.push(Finding { seq, row_id, what: what.to_owned() });
    }

    /// The end: what was read, and everything that does not hold.
    pub fn end(mut self) -> Verified {
        if self.checkpoint.is_none() {
            self.find(None, None, "the export has no end: lines are missing");
        }
        for seq in std::mem::take(&mut self.known).into_keys() {
            let what = format!("the chain ends at place {}; the checkpoint saw this one", self.seq);
            self.find(Some(seq), None, &what);
        }
        Verified {
            workspace: self.workspace,
            sealed: self.seq,
            unsealed: self.unsealed,
            checkpoint: self.checkpoint,
            findings: self.findings,
        }
    }
}

/// What a verifier read.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose audit it was.
    pub workspace: Option<WorkspaceId>,
    /// Places in the chain.
    pub sealed: u64,
    /// Rows that are in no place yet.
    pub unsealed: u64,
    /// Where it ended.
    pub checkpoint: Option<Checkpoint>,
    /// What does not hold.
    pub findings: Vec<Finding>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(7));

    fn row(id: i64) -> ChainedRow {
        ChainedRow {
            id,
            at: Timestamp::from_second(1_000_000 + id).expect("time"),
            actor: format!("actor-{id}"),
            action: "queue.pause".into(),
            object: "writer".into(),
            detail: Some(RawValue::from_string(format!(r#"{{"n": {id}}}"#)).expect("json")),
            request_id: (id % 2 == 0).then(|| format!("request-{id}")),
            before_hash: None,
            after_hash: None,
        }
    }

    /// A good chain of `length` rows, as an export.
    fn export(length: u64) -> Vec<ExportLine> {
        let mut lines = vec![ExportLine::Export(ExportHead { format: 1, workspace_id: WORKSPACE })];
        let (mut previous, sealed_at) = (BEGINNING, Timestamp::from_second(2_000_000).expect("time"));
        for seq in 1..=length {
            // The rows' numbers are not in the order of the chain.
            let row = row(seq.cast_signed() ^ 1);
            previous = link(&previous, WORKSPACE, seq, sealed_at, &row);
            let (hash, row_id) = (hex::encode(previous), row.id);
            lines.push(ExportLine::Link(Link { seq, hash, sealed_at, row_id, row: Some(row) }));
        }
        lines.push(ExportLine::Checkpoint(Checkpoint {
            workspace_id: WORKSPACE,
            seq: length,
            hash: hex::encode(previous),
            at: sealed_at,
            public_key: None,
            signature: None,
        }));
        lines
    }

    /// As it is read back from a file.
    fn found(lines: &[ExportLine], expected: Option<&Checkpoint>) -> Vec<String> {
        let mut verifier = Verifier::new();
        if let Some(expected) = expected {
            verifier.expect(expected);
        }
        for line in lines {
            let text = serde_json::to_string(line).expect("text");
            verifier.read(serde_json::from_str(&text).expect("line"));
        }
        verifier.end().findings.iter().map(ToString::to_string).collect()
    }

    fn place(lines: &mut [ExportLine], seq: usize) -> &mut Link {
        match &mut lines[seq] {
            ExportLine::Link(link) => link,
            other => panic!("{other:?}"),
        }
    }

    fn checkpoint(lines: &[ExportLine]) -> Checkpoint {
        match lines.last() {
            Some(ExportLine::Checkpoint(checkpoint)) => checkpoint.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Re-hashes everything from a place on, as whoever rewrites history would.
    fn rewrite(lines: &mut [ExportLine], from: usize) {
        let last = lines.len() - 1;
        for seq in from..last {
            let previous = match &lines[seq - 1] {
                ExportLine::Link(link) => hex::decode(&link.hash).expect("hex").try_into().expect("hash"),
                _ => BEGINNING,
            };
            let link = place(lines, seq);
            let row = link.row.as_ref().expect("row");
            link.hash = hex::encode(super::link(&previous, WORKSPACE, link.seq, link.sealed_at, row));
        }
        let hash = place(lines, last - 1).hash.clone();
        if let ExportLine::Checkpoint(checkpoint) = &mut lines[last] {
            checkpoint.hash = hash;
        }
    }

    #[test]
    fn each_way_of_tampering_is_found_at_its_place() {
        assert_eq!(found(&export(0), None), [""; 0]);
        assert_eq!(found(&export(9), None), [""; 0]);
        type Tamper = fn(&mut Vec<ExportLine>);
        let changed = "the row or its seal was changed after it was sealed";
        let cases: [(&str, Tamper, Vec<String>); 13] = [
            ("a row changed", |l| place(l, 4).row.as_mut().expect("row").actor = "nobody".into(), vec![
                format!("place 4, row 5: {changed}"),
            ]),
            ("a detail changed", |l| {
                let detail = RawValue::from_string(r#"{"n":5}"#.into()).expect("json");
                place(l, 4).row.as_mut().expect("row").detail = Some(detail);
            }, vec![format!("place 4, row 5: {changed}")]),
            ("an absent text is empty", |l| {
                place(l, 4).row.as_mut().expect("row").before_hash = Some(String::new());
            }, vec![format!("place 4, row 5: {changed}")]),
            ("a row removed", |l| place(l, 4).row = None, vec!["place 4, row 5: the row was removed".into()]),
            ("a seal removed", |l| drop(l.remove(4)), vec!["place 4: its seal was removed".into()]),
            ("two seals removed", |l| drop(l.drain(4..6)), vec![
                "place 4: the seals up to place 5 were removed".into(),
            ]),
            ("the first seal removed", |l| drop(l.remove(1)), vec!["place 1: its seal was removed".into()]),
            ("the last seal removed", |l| drop(l.remove(9)), vec![
                "place 9: the seals up to place 9 were removed".into(),
            ]),
            ("two rows swapped", |l| {
                let (a, b) = (place(l, 4).row.take(), place(l, 6).row.take());
                (place(l, 4).row, place(l, 6).row) = (b, a);
            }, vec![format!("place 4, row 7: {changed}"), format!("place 6, row 5: {changed}")]),
            ("a seal twice", |l| {
                let twice = l[4].clone();
                l.insert(5, twice);
            }, vec![
                "place 4, row 5: there is more than one seal of this place".into(),
                format!("place 4, row 5: {changed}"),
            ]),
            ("a row inserted", |l| l.insert(10, ExportLine::Unsealed(row(-900))), vec![
                "row -900: it is in no place although later rows are: it was inserted, or its seal was removed"
                    .into(),
            ]),
            ("a row inserted, and sealed since", |l| {
                *place(l, 6).row.as_mut().expect("row") = row(-900);
                place(l, 6).row_id = -900;
                rewrite(l, 6);
            }, vec![
                "place 6, row -900: it came into the chain long after others of its time: it was inserted later"
                    .into(),
            ]),
            ("cut off", |l| drop(l.pop()), vec!["the export has no end: lines are missing".into()]),
        ];
        for (name, tamper, wanted) in cases {
            let mut lines = export(9);
            tamper(&mut lines);
            assert_eq!(found(&lines, None), wanted, "{name}");
        }
        // A row that just came is in no place yet.
        let mut fresh = export(9);
        fresh.insert(10, ExportLine::Unsealed(row(11)));
        assert_eq!(found(&fresh, None), [""; 0]);
    }

    #[test]
    fn a_rewritten_chain_does_not_pass_through_a_kept_checkpoint() {
        let kept = checkpoint(&export(5));
        assert_eq!(found(&export(9), Some(&kept)), [""; 0]);
        let mut lines = export(9);
        place(&mut lines, 3).row.as_mut().expect("row").actor = "nobody".into();
        rewrite(&mut lines, 3);
        assert_eq!(found(&lines, None), [""; 0], "the chain itself holds");
        let rewritten = "place 5: the checkpoint has another hash: the chain was rewritten here or before";
        assert_eq!(found(&lines, Some(&kept)), [rewritten]);
        let short = found(&export(3), Some(&kept));
        assert_eq!(short, ["place 5: the chain ends at place 3; the checkpoint saw this one"]);
    }

    /// One change, and everything else as it was.
    #[test]
    fn each_part_alone_changes_the_hash() {
        type Change = fn(&mut ChainedRow);
        let changes: [(&str, Change); 10] = [
            ("id", |row| row.id += 1),
            ("at", |row| row.at += SignedDuration::from_micros(1)),
            ("actor", |row| row.actor.push('x')),
            ("action", |row| row.action.push('x')),
            ("object", |row| row.object.push('x')),
            ("detail", |row| row.detail = None),
            ("request", |row| row.request_id = Some("another".into())),
            ("no request", |row| row.request_id = None),
            ("before", |row| row.before_hash = Some(String::new())),
            ("after", |row| row.after_hash = Some("aa".into())),
        ];
        let at = Timestamp::UNIX_EPOCH;
        let whole = link(&BEGINNING, WORKSPACE, 1, at, &row(2));
        for (what, change) in changes {
            let mut changed = row(2);
            change(&mut changed);
            assert_ne!(link(&BEGINNING, WORKSPACE, 1, at, &changed), whole, "{what}");
        }
        let elsewhere = WorkspaceId(Uuid::from_u128(8));
        for (what, other) in [
            ("the hash before", link(&whole, WORKSPACE, 1, at, &row(2))),
            ("workspace", link(&BEGINNING, elsewhere, 1, at, &row(2))),
            ("place", link(&BEGINNING, WORKSPACE, 2, at, &row(2))),
            ("sealed at", link(&BEGINNING, WORKSPACE, 1, at + SignedDuration::from_micros(1), &row(2))),
        ] {
            assert_ne!(other, whole, "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// No field can be changed, and no byte moved from one to its neighbour.
        #[test]
        fn every_part_of_a_row_is_in_its_hash(
            texts in prop::array::uniform6("[a-c]{0,2}"),
            others in prop::array::uniform6("[a-c]{0,2}"),
            (id, other_id) in (0_i64..3, 0_i64..3),
        ) {
            let make = |[actor, action, object, request, before, after]: [String; 6], id| ChainedRow {
                actor, action, object,
                request_id: Some(request),
                before_hash: Some(before),
                after_hash: Some(after),
                ..row(id)
            };
            let hash = |row: &ChainedRow| link(&BEGINNING, WORKSPACE, 1, Timestamp::UNIX_EPOCH, row);
            let same = texts == others && id == other_id;
            prop_assert_eq!(hash(&make(texts, id)) == hash(&make(others, other_id)), same);
        }
    }
}
