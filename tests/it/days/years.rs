use std::collections::BTreeMap;

use futures::future::join_all;
use galley_core::ids::WorkspaceId;
use galley_core::slot::DayZone;
use galley_engine::store::{DayRule, Overtaken, Store};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::WINDOW_MS;
use super::calendar::{Day, YEARS, before, days};
use super::counter::{Counter, clocks, set};
use crate::harness::Bed;

/// A zone's year, lived through day by day.
struct Year {
    /// Its place in the list; its clock is the one behind it.
    n: usize,
    name: &'static str,
    rule: DayRule,
    days: Vec<Day>,
    counter: Counter,
    /// What the counters have to say in the end.
    used: BTreeMap<Date, u32>,
    /// The effect key of the newest post, and its day.
    newest: Option<(Date, String)>,
}

impl Year {
    fn clock(&self) -> usize {
        self.n + 1
    }

    /// Whether the day's place is taken in its first instant; else in its last.
    fn is_early(&self, index: usize) -> bool {
        (index + self.n).is_multiple_of(2)
    }

    /// Whether everything is tried on the day: it is longer or shorter than
    /// others, or it is its turn.
    fn is_special(&self, index: usize) -> bool {
        self.days[index].minutes() != 24 * 60 || (index + self.n).is_multiple_of(30)
    }

    /// The first instant of the day.
    async fn first(&mut self, index: usize) {
        if (index + self.n).is_multiple_of(7)
            && let Some((day, key)) = self.newest.take()
        {
            // Its day has a place again; the one that begins has none more.
            self.counter.not_sent(&key).await;
            *self.used.entry(day).or_default() -= 1;
        }
        if self.is_early(index) {
            self.take(index).await;
            if self.is_special(index) {
                self.refuses(index, Overtaken::DayFull).await;
            }
        }
    }

    /// The last instant of the day in which something may begin.
    async fn last(&mut self, index: usize) {
        if !self.is_early(index) {
            self.take(index).await;
        }
        if (index + self.n).is_multiple_of(11)
            && let Some((day, key)) = self.newest.take()
        {
            self.counter.not_sent(&key).await;
            *self.used.entry(day).or_default() -= 1;
            self.take(index).await;
        }
        if self.is_early(index) || self.is_special(index) {
            self.refuses(index, Overtaken::DayFull).await;
        }
    }

    /// The day's one place is there.
    async fn take(&mut self, index: usize) {
        let day = self.days[index];
        match self.counter.intend(&self.rule).await {
            Ok(key) => self.newest = Some((day.date, key)),
            Err(refused) => self.accuse(&day, &format!("its place: {refused}")),
        }
        *self.used.entry(day.date).or_default() += 1;
    }

    async fn refuses(&mut self, index: usize, why: Overtaken) {
        let day = self.days[index];
        let refused = self.counter.ask(&self.rule).await;
        if refused != Err(why) {
            self.accuse(&day, &format!("expected `{why}`, found {refused:?}"));
        }
    }

    fn accuse(&self, day: &Day, problem: &str) -> ! {
        panic!("{} on {} ({} to {}): {problem}", self.name, day.date, day.begins, day.ends);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_day_of_forty_years_has_exactly_its_places() {
    let bed = Bed::new().await;
    clocks(&bed, YEARS.len()).await;
    let mut years = Vec::new();
    for (n, (name, first)) in YEARS.into_iter().enumerate() {
        let days = days(&TimeZone::get(name).unwrap(), first.parse().unwrap());
        if !postgres_agrees(&bed, name, &days).await {
            eprintln!("left out: Postgres' time zone data has another {name}");
            continue;
        }
        let url = format!("{}?options[galley_test.clock]={}", bed.database_url, n + 1);
        let store = Store::connect(&url, 1).unwrap();
        // One after the other: forty at once take longer than a pool waits.
        store.ping().await.unwrap();
        let counter = Counter::new(&bed, store, WorkspaceId(Uuid::now_v7()), 1).await;
        let rule = DayRule { zone: name.into(), previous: None };
        let used = BTreeMap::new();
        years.push(Year { n, name, rule, days, counter, used, newest: None });
    }
    assert!(years.len() + 1 >= YEARS.len(), "{} years are left", years.len());
    years.iter().for_each(Year::compare_with_slots);
    let window = (WINDOW_MS as i64).milliseconds();
    for index in 0..365 {
        set(&bed, years.iter().map(|year| (year.clock(), year.days[index].begins))).await;
        join_all(years.iter_mut().map(|year| year.first(index))).await;
        set(&bed, years.iter().map(|year| (year.clock(), before(year.days[index].ends - window)))).await;
        join_all(years.iter_mut().map(|year| year.last(index))).await;
        // The first and the last instant in which nothing may begin.
        let mut special: Vec<_> = years.iter_mut().filter(|year| year.is_special(index)).collect();
        for at in [|day: Day, window| day.ends - window, |day: Day, _| before(day.ends)] {
            if !special.is_empty() {
                set(&bed, special.iter().map(|year| (year.clock(), at(year.days[index], window)))).await;
                join_all(special.iter_mut().map(|year| year.refuses(index, Overtaken::DayEnds))).await;
            }
        }
    }
    for year in &years {
        let used: Vec<_> = year.used.iter().map(|(day, used)| format!("{day}:{used}")).collect();
        assert_eq!(counted(&bed, &year.counter).await, used.join(" "), "{}", year.name);
        assert_eq!(held(&bed, &year.counter).await, used.join(" "), "{}", year.name);
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
