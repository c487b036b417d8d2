//! A year is lived through twice: first each day's one place is taken, on
//! every other day in its first instant and on the others in the last one in
//! which something may begin; then, when every day is full, both ends of days
//! are asked for another.

use std::collections::BTreeMap;

use futures::future::join_all;
use galley_core::ids::WorkspaceId;
use galley_core::slot::DayZone;
use galley_engine::store::{DayRule, Overtaken, Store};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::WINDOW_MS;
use super::calendar::{Day, YEARS, before, days};
use super::counter::{Counter, clocks, set};
use crate::harness::Bed;

/// Places taken in one transaction.
const BATCH: usize = 73;

/// A zone's year.
struct Year {
    /// Its place in the list.
    n: usize,
    name: &'static str,
    rule: DayRule,
    days: Vec<Day>,
    counter: Counter,
    /// The effect keys of its posts, one per day; then those of the posts that
    /// take the place of one that was never sent.
    posts: Vec<String>,
    /// The days whose post is never sent.
    unsent: Vec<usize>,
}

impl Year {
    async fn new(bed: &Bed, n: usize, name: &'static str, days: Vec<Day>) -> Self {
        let url = format!("{}?options[galley_test.clock]={}", bed.database_url, n + 1);
        let store = Store::connect(&url, 1).unwrap();
        // One after the other: forty at once take longer than a pool waits.
        store.ping().await.unwrap();
        let mut counter = Counter::new(bed, store, WorkspaceId(Uuid::now_v7()), 1).await;
        let unsent: Vec<usize> = (0..days.len()).filter(|index| (index + n).is_multiple_of(29)).collect();
        let first = (0..days.len()).map(|index| instant(&days[index], (index + n).is_multiple_of(2)));
        // Whoever comes after one that was not sent comes at the other end.
        let again = unsent.iter().map(|index| instant(&days[*index], !(index + n).is_multiple_of(2)));
        let posts = counter.plan(bed, n + 1, &first.chain(again).collect::<Vec<_>>()).await;
        let rule = DayRule { zone: name.into(), previous: None };
        Self { n, name, rule, days, counter, posts, unsent }
    }

    fn clock(&self) -> usize {
        self.n + 1
    }

    /// Every day's place is there; and there again when its post was not sent.
    async fn take_all(&mut self) {
        let (first, again) = self.posts.split_at(self.days.len());
        for (batch, posts) in first.chunks(BATCH).enumerate() {
            if let Err(refused) = self.counter.take(&self.rule, posts).await {
                let from = self.days[batch * BATCH].date;
                panic!("{}: a place of one of {} days from {from} on: {refused}", self.name, posts.len());
            }
        }
        self.counter.not_sent(self.unsent.iter().map(|index| &first[*index])).await;
        let taken = self.counter.take(&self.rule, again).await;
        assert_eq!(taken, Ok(()), "{}: the place of one that was not sent", self.name);
    }

    /// The instants at which it is asked for more than there is, each with the
    /// answer: both ends of every day that is longer or shorter than others,
    /// and of the days around it, and of some others.
    fn questions(&self) -> Vec<(Timestamp, Overtaken)> {
        let is_odd = |index: usize| self.days.get(index).is_some_and(|day| day.minutes() != 24 * 60);
        let chosen = (0..self.days.len()).filter(|index| {
            (index.saturating_sub(1)..=index + 1).any(is_odd) || (index + self.n).is_multiple_of(61)
        });
        let ends = chosen.flat_map(|index| {
            let Day { begins, ends, .. } = self.days[index];
            let last = ends - (WINDOW_MS as i64).milliseconds();
            let (full, over) = (Overtaken::DayFull, Overtaken::DayEnds);
            [(begins, full), (before(last), full), (last, over), (before(ends), over)]
        });
        ends.collect()
    }

    async fn refuses(&mut self, at: Timestamp, why: Overtaken) {
        let refused = self.counter.ask(&self.rule).await;
        assert_eq!(refused, Err(why), "{} at {at}", self.name);
    }

    /// The arithmetic that chooses slots says the same as the calendar.
    fn compare_with_slots(&self) {
        let zone = DayZone::always(TimeZone::get(self.name).unwrap());
        for day in &self.days {
            assert_eq!(zone.day(day.begins), day.date, "{}", self.name);
            assert_eq!(zone.day(before(day.ends)), day.date, "{}", self.name);
            assert_eq!(zone.next_day(day.begins), day.ends, "{} {day:?}", self.name);
        }
    }
}

/// The first instant of a day, or the last one in which something may begin.
fn instant(day: &Day, first: bool) -> Timestamp {
    if first { day.begins } else { before(day.ends - (WINDOW_MS as i64).milliseconds()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_day_of_forty_years_has_exactly_its_places() {
    let bed = Bed::new().await;
    clocks(&bed, YEARS.len()).await;
    let mut years = Vec::new();
    for (n, (name, first)) in YEARS.into_iter().enumerate() {
        let days = days(&TimeZone::get(name).unwrap(), first.parse().unwrap());
        if postgres_agrees(&bed, name, &days).await {
            years.push(Year::new(&bed, n, name, days).await);
        } else {
            eprintln!("left out: Postgres' time zone data has another {name}");
        }
    }
    assert!(years.len() + 1 >= YEARS.len(), "{} years are left", years.len());
    years.iter().for_each(Year::compare_with_slots);
    join_all(years.iter_mut().map(Year::take_all)).await;

    let questions: Vec<_> = years.iter().map(Year::questions).collect();
    let most = questions.iter().map(Vec::len).max().unwrap_or(0);
    for turn in 0..most {
        let asked = years.iter_mut().zip(&questions).filter_map(|(year, all)| Some((year, *all.get(turn)?)));
        let asked: Vec<_> = asked.collect();
        set(&bed, asked.iter().map(|(year, (at, _))| (year.clock(), *at))).await;
        join_all(asked.into_iter().map(|(year, (at, why))| year.refuses(at, why))).await;
    }
    for year in &years {
        let days: BTreeMap<Date, u32> = year.days.iter().map(|day| (day.date, 1)).collect();
        let expected: Vec<_> = days.iter().map(|(day, used)| format!("{day}:{used}")).collect();
        assert_eq!(counted(&bed, &year.counter).await, expected.join(" "), "{}", year.name);
        assert_eq!(held(&bed, &year.counter).await, expected.join(" "), "{}", year.name);
    }
    bed.end().await;
}

/// Whether Postgres knows the same days.
async fn postgres_agrees(bed: &Bed, zone: &str, days: &[Day]) -> bool {
    let begins: Vec<_> = days.iter().map(|day| day.begins.to_string()).collect();
    let dates: Vec<_> = days.iter().map(|day| day.date.to_string()).collect();
    let other = format!(
        "SELECT count(*) FROM unnest('{{{}}}'::timestamptz[], '{{{}}}'::date[]) AS d(begins, day)
          WHERE (begins AT TIME ZONE '{zone}')::date <> day
             OR ((begins - interval '1 us') AT TIME ZONE '{zone}')::date = day",
        begins.join(","),
        dates.join(",")
    );
    bed.count(&other).await == 0
}

/// What the workspace's counters say.
async fn counted(bed: &Bed, counter: &Counter) -> String {
    bed.text(&format!(
        "SELECT string_agg(day || ':' || used, ' ' ORDER BY day) FROM day_quota
          WHERE workspace_id = '{}' AND account_id = '{}'",
        counter.workspace(),
        Uuid::nil()
    ))
    .await
}

/// What the publications hold.
async fn held(bed: &Bed, counter: &Counter) -> String {
    bed.text(&format!(
        "SELECT string_agg(day || ':' || n, ' ' ORDER BY day) FROM (
             SELECT quota_day AS day, count(*) FILTER (WHERE quota_held) AS n FROM publications
              WHERE workspace_id = '{}' GROUP BY quota_day) days",
        counter.workspace()
    ))
    .await
}
