//! Posts and the questions about them, as text for people.

use galley_api::views::{
    Approval, ApprovalDetail, PostContent, PostDetail, Publication, PublicationEvent, WorkflowPost,
};

use super::{dollars, prose_width, section};
use crate::print::{self, style};
use crate::table::{Table, boxed, cell, state, wrap};
use crate::time;

/// The posts of a workflow as a table.
pub(crate) fn posts(posts: &[WorkflowPost]) -> Table {
    let mut table = Table::new(&["POST", "ACCOUNT", "STATE", "SLOT", "~REASON"]);
    for post in posts {
        table.row(vec![
            cell(post.id),
            cell(&post.account),
            state(&post.state),
            cell(post.slot_at.as_deref().map_or(String::new(), time::ago)),
            cell(post.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// A post with its receipt: what it says, who approved what, what went out.
pub(crate) fn post(detail: &PostDetail) -> String {
    let post = &detail.post;
    let mut text = format!(
        "{}  {}\n",
        style::STRONG.on(&post.id.to_string()),
        style::of_state(&post.state).on(&post.state)
    );
    text.push_str(&format!(
        "for {} ({}), revision {}, made {} by task {}\n",
        post.account,
        post.platform,
        post.revision,
        time::ago(&post.created_at),
        post.task_id
    ));
    if let Some(reason) = &post.reason {
        text.push_str(&format!("{}\n", visible(reason)));
    }
    if let Some(slot) = &post.slot_at {
        let by = post.slot_by.as_ref().map(|by| format!(", chosen by {by}")).unwrap_or_default();
        text.push_str(&format!("slot {} ({}){by}\n", time::exact(slot), time::ago(slot)));
    }
    text.push_str(&format!("\n{}", said(&post.platform, &post.content)));
    text.push_str(&format!("{}\n", style::DIM.on(&format!("content hash {}", post.content_hash))));
    if detail.revisions.len() > 1 {
        let mut table = Table::new(&[">REVISION", "WRITTEN", "HASH", "~BY"]);
        for revision in &detail.revisions {
            table.row(vec![
                cell(revision.revision),
                cell(time::ago(&revision.created_at)),
                cell(short(&revision.content_hash)),
                cell(&revision.author),
            ]);
        }
        text.push_str(&titled("Revisions", &table));
    }
    if !detail.approvals.is_empty() {
        text.push_str(&titled("Approvals", &approvals(&detail.approvals)));
    }
    if let Some(publication) = &detail.publication {
        text.push_str(&format!("\n{}\n{}", style::STRONG.on("Publication"), published(publication)));
    }
    if !detail.events.is_empty() {
        text.push_str(&titled("What happened", &timeline(&detail.events)));
    }
    text
}

/// A question with exactly what it is about.
pub(crate) fn approval(detail: &ApprovalDetail) -> String {
    let asked = &detail.approval;
    let mut text = format!(
        "{}  {}\n",
        style::STRONG.on(&asked.id.to_string()),
        style::of_state(&asked.status).on(&asked.status)
    );
    let what = match (asked.post_id, asked.revision) {
        (Some(post), Some(revision)) => format!("may revision {revision} of post {post} go out"),
        _ => format!("may task {} run", asked.task_id),
    };
    let account = detail.account.as_ref().map(|account| format!(" to {account}")).unwrap_or_default();
    text.push_str(&format!("{what}{account}? {}\n", visible(&asked.reason)));
    let expires = match asked.status.as_str() {
        "pending" => format!(", expires {}", time::ago(&asked.expires_at)),
        _ => String::new(),
    };
    text.push_str(&format!("asked {}{expires}\n", time::ago(&asked.asked_at)));
    if let Some(by) = &asked.decided_by {
        let when = asked.decided_at.as_deref().map(time::ago).unwrap_or_default();
        let note = asked.note.as_ref().map(|note| format!(": {}", visible(note))).unwrap_or_default();
        text.push_str(&format!("{} by {by} {when}{note}\n", asked.status));
    }
    match (&detail.content, &detail.input) {
        (Some(content), _) => {
            text.push('\n');
            text.push_str(&said(detail.platform.as_deref().unwrap_or_default(), content));
        }
        (None, Some(input)) => text.push_str(&section("Input", input)),
        (None, None) => {}
    }
    text.push_str(&format!("{}\n", style::DIM.on(&format!("content hash {}", asked.content_hash))));
    text
}

/// The content as a box, with nothing in it that hides.
fn said(platform: &str, content: &PostContent) -> String {
    let width = prose_width().min(76);
    let mut lines = wrap(&visible(&content.text), width - 4);
    if let Some(link) = &content.link {
        lines.push(String::new());
        lines.extend(wrap(&format!("link {}", visible(link)), width - 4));
    }
    boxed(&format!("{platform}, {} characters", content.text.chars().count()), &lines, width)
}

/// Whoever approves must see what is there: control characters and those that
/// turn the direction of text are written out.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
        // Emoji are joined with U+200D.
        if (c.is_control() && c != '\n' && c != '\t') || (turns && c != '\u{200d}') || c == '\u{feff}' {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn approvals(approvals: &[Approval]) -> Table {
    let mut table = Table::new(&["APPROVAL", ">REVISION", "STATUS", "ASKED", "ANSWERED", "BY", "~NOTE"]);
    for asked in approvals {
        table.row(vec![
            cell(asked.id),
            cell(asked.revision.map_or(String::new(), |revision| revision.to_string())),
            state(&asked.status),
            cell(time::ago(&asked.asked_at)),
            cell(asked.decided_at.as_deref().map_or(String::new(), time::ago)),
            cell(asked.decided_by.as_deref().unwrap_or_default()),
            cell(visible(asked.note.as_deref().unwrap_or(&asked.reason))),
        ]);
    }
    table
}

fn published(publication: &Publication) -> String {
    let calls = if publication.sends == 1 { "call" } else { "calls" };
    let word = &publication.state;
    let mut lines = vec![
        format!(
            "{} after {} {calls} to the platform; first meant to go out {}",
            style::of_state(word).on(word),
            publication.sends,
            time::exact(&publication.intended_at)
        ),
        format!("revision {}, hash {}", publication.revision, publication.content_hash),
        format!("key {}", publication.effect_key),
        match publication.approval_id {
            Some(approval) => format!("let out by approval {approval}"),
            None => "let out by the policy".into(),
        },
    ];
    lines.extend(publication.remote_id.as_ref().map(|id| format!("platform's id {id}")));
    lines.extend(publication.link.as_ref().map(|link| format!("link {link}")));
    let day = publication.quota_day.as_ref().filter(|_| publication.quota_held);
    lines.extend(day.map(|day| format!("counts in the limits of {day}")));
    let paid = (publication.price_micros > 0).then(|| dollars(publication.price_micros));
    lines.extend(paid.map(|price| format!("costs {price}, drawn from the budgets")));
    lines.extend(publication.settled_by.as_ref().map(|by| format!("settled by {by}")));
    lines.extend(publication.told.as_ref().map(|told| format!("told: {}", visible(told))));
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

fn timeline(events: &[PublicationEvent]) -> Table {
    let mut table = Table::new(&["AT", "WHAT", "~TOLD"]);
    for event in events {
        table.row(vec![
            cell(time::exact(&event.at)),
            state(&event.event),
            cell(visible(event.detail.as_deref().unwrap_or_default())),
        ]);
    }
    table
}

fn titled(title: &str, table: &Table) -> String {
    format!("\n{}\n{}", style::STRONG.on(title), table.render(print::data_width()))
}

/// Enough of a hash to tell revisions apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use galley_api::views::{ApprovalDetail, PostContent, PostDetail};
    use serde_json::json;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    const ID: &str = "0199aa10-7c1e-7d3a-9c9e-1234567890ab";

    #[test]
    fn nothing_hides_in_what_is_approved() {
        let content = PostContent { text: "nice\u{1b}[2K\rbad \u{202e}text".into(), link: None };
        let shown = super::said("x", &content);
        assert!(shown.contains("nice\\u{1b}[2K\\u{d}bad \\u{202e}text"), "{shown:?}");
        let family = PostContent { text: "👨‍👩‍👧".into(), link: Some("https://a".into()) };
        let shown = super::said("x", &family);
        assert!(shown.contains("👨‍👩‍👧") && shown.contains("link https://a"), "{shown}");
    }

    #[test]
    fn a_receipt_says_who_approved_what_and_where_it_is() {
        let detail: PostDetail = serde_json::from_value(json!({
            "id": ID, "workflowId": ID, "taskId": format!("{ID}.publish"), "account": "news",
            "platform": "preview", "state": "published", "reason": null, "revision": 2,
            "contentHash": "bb", "content": { "text": "Hello" }, "slotAt": "2026-03-01T09:30:00Z",
            "slotBy": "ana", "held": true, "createdAt": "2026-03-01T09:00:00Z",
            "updatedAt": "2026-03-01T09:30:02Z",
            "revisions": [
                { "revision": 1, "content": { "text": "Hullo" }, "contentHash": "aa",
                  "author": "workflow", "createdAt": "2026-03-01T09:00:00Z" },
                { "revision": 2, "content": { "text": "Hello" }, "contentHash": "bb",
                  "author": "ben", "createdAt": "2026-03-01T09:10:00Z" },
            ],
            "approvals": [{
                "id": ID, "kind": "post", "workflowId": ID, "taskId": format!("{ID}.publish"), "postId": ID,
                "revision": 2, "contentHash": "bb", "reason": "every post", "status": "approved",
                "askedAt": "2026-03-01T09:10:00Z", "expiresAt": "2026-03-04T09:10:00Z",
                "decidedBy": "ana", "decidedAt": "2026-03-01T09:20:00Z", "note": "lovely",
            }],
            "publication": {
                "state": "published", "effectKey": "k1", "revision": 2, "contentHash": "bb",
                "payload": { "text": "Hello" }, "approvalId": ID, "sends": 1,
                "intendedAt": "2026-03-01T09:30:00Z", "remoteId": "r1", "link": "https://there/1",
                "told": null, "settledBy": null, "settledAt": "2026-03-01T09:30:01Z",
                "quotaDay": "2026-03-01", "quotaHeld": true,
            },
            "events": [{ "at": "2026-03-01T09:30:00Z", "event": "intent", "detail": null }],
        }))
        .unwrap();
        let text = plain(&super::post(&detail));
        // In the zone of whoever reads it.
        let slot = format!("slot {}", super::time::exact("2026-03-01T09:30:00Z"));
        for part in [
            "for news (preview), revision 2",
            &slot,
            "chosen by ana",
            "│ Hello",
            "lovely",
            "published after 1 call to the platform",
            "link https://there/1",
            "counts in the limits of 2026-03-01",
            "intent",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }

    #[test]
    fn a_question_shows_what_it_is_about() {
        let detail: ApprovalDetail = serde_json::from_value(json!({
            "id": ID, "kind": "post", "workflowId": ID, "taskId": format!("{ID}.publish"), "postId": ID,
            "revision": 1, "contentHash": "aa", "reason": "every post needs an approval here",
            "status": "pending", "askedAt": "2026-03-01T09:10:00Z", "expiresAt": "2026-03-04T09:10:00Z",
            "decidedBy": null, "decidedAt": null, "note": null, "account": "news", "platform": "preview",
            "content": { "text": "Hello" }, "input": null,
        }))
        .unwrap();
        let text = plain(&super::approval(&detail));
        assert!(text.contains("may revision 1 of post"), "{text}");
        assert!(text.contains("│ Hello") && text.contains("content hash aa"), "{text}");
    }
}
