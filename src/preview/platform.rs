//! The platform's state: accounts, posts, the keys it remembers, its faults.
//!
//! Everything happens under one lock and first in the data file, so that what a
//! client was told, what the page shows and what a restart finds agree.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
};

use axum::http::StatusCode;
use jiff::Timestamp;
use rand::RngExt;
use tokio::sync::watch;

use crate::{
    accounts::{self, Account, Member, SeedAccount},
    answer::ApiError,
    error::{Invalid, PreviewError},
    faults::{Fault, SetFault, Switchboard},
    fields,
    journal::{Journal, Line, Stored},
    ledger::Ledger,
    posts::{Endpoint, Order, Post, Price},
};

/// Posts kept, the newest ones. Keys of older posts are forgotten with them, as
/// a real platform forgets keys after a while.
const POSTS: usize = 10_000;
/// Accounts, at most.
const ACCOUNTS: usize = 1_000;

/// What publishing came to.
pub(crate) struct Published {
    pub(crate) id: String,
    /// The key was known: this is the post of an earlier request.
    pub(crate) repeated: bool,
    /// What was taken for the post, millionths of a US dollar.
    pub(crate) cost_micros: u64,
}

pub(crate) struct Platform {
    /// In the order of creation.
    members: Vec<Member>,
    /// Oldest first; `seq` has no gaps.
    posts: VecDeque<Post>,
    /// The `seq` of each kept post, by its id.
    ids: HashMap<String, u64>,
    /// The `seq`s under each key that a client can use or look for.
    keys: HashMap<(Endpoint, String, String), Vec<u64>>,
    /// Posts ever.
    count: watch::Sender<u64>,
    pub(crate) faults: Switchboard,
    /// What a post costs.
    pub(crate) price: Price,
    journal: Option<Journal>,
}

impl Platform {
    /// An empty platform, or what the data file has.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, PreviewError> {
        let mut platform = Self {
            members: Vec::new(),
            posts: VecDeque::new(),
            ids: HashMap::new(),
            keys: HashMap::new(),
            count: watch::Sender::new(0),
            faults: Switchboard::new(),
            price: Price::default(),
            journal: None,
        };
        if let Some(file) = file {
            let journal = Journal::open(file, |stored| platform.restore(stored))?;
            platform.journal = Some(journal);
        }
        Ok(platform)
    }

    fn restore(&mut self, stored: Stored) -> Result<(), String> {
        match stored {
            Stored::Account(member) => self.keep_member(member),
            Stored::Post(post) => {
                if post.seq != self.ever() + 1 {
                    return Err(format!("post {} follows post {}", post.seq, self.ever()));
                }
                if self.member(&post.account).is_none() {
                    return Err(format!("a post of the unknown account {:?}", post.account));
                }
                self.keep_post(post);
            }
        }
        Ok(())
    }

    // -- accounts

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(crate) fn member(&self, handle: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.handle == handle)
    }

    pub(crate) fn member_by_token(&self, token: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.token == token)
    }

    /// Creates an account with a token of its own.
    pub(crate) fn add_account(&mut self, handle: &str, display_name: &str) -> Result<Account, ApiError> {
        accounts::check(handle, display_name)?;
        if self.member(handle).is_some() {
            let message = format!("the handle {handle} is taken");
            return Err(ApiError::new(StatusCode::CONFLICT, "handle_taken", message));
        }
        if self.members.len() >= ACCOUNTS {
            let message = format!("there are {ACCOUNTS} accounts, and no more fit");
            return Err(ApiError::new(StatusCode::CONFLICT, "full", message));
        }
        let token = format!("pvw_{}", letters(32));
        self.write_member(member(handle, display_name, token))
    }

    /// Creates an account with a given token, or gives its account that token.
    pub(crate) fn seed(&mut self, seed: &SeedAccount) -> Result<(), Invalid> {
        accounts::check(&seed.handle, &seed.display_name)?;
        fields::token(&seed.token)?;
        if self.member_by_token(&seed.token).is_some_and(|other| other.handle != seed.handle) {
            return Err(Invalid::new("token", "belongs to another account"));
        }
        let wanted = match self.member(&seed.handle) {
            Some(known) if known.token == seed.token && known.display_name == seed.display_name => {
                return Ok(());
            }
            Some(known) => {
                Member { display_name: seed.display_name.clone(), token: seed.token.clone(), ..known.clone() }
            }
            None => member(&seed.handle, &seed.display_name, seed.token.clone()),
        };
        self.write_member(wanted).map(drop).map_err(|_| Invalid::new("accounts", "cannot be written"))
    }

    fn write_member(&mut self, member: Member) -> Result<Account, ApiError> {
        self.write(&Line::Account(&member))?;
        let account = member.account();
        self.keep_member(member);
        Ok(account)
    }

    fn keep_member(&mut self, member: Member) {
        match self.members.iter_mut().find(|known| known.handle == member.handle) {
            Some(known) => *known = Member { posts: known.posts, ..member },
            None => self.members.push(member),
        }
    }

    // -- posts

    /// Publishes: one new post, unless the endpoint knows the key.
    pub(crate) fn publish(&mut self, order: &Order) -> Result<Published, ApiError> {
        if order.endpoint == Endpoint::Idempotent
            && let Some(key) = &order.key
            && let Some(first) = self.posts_with_key(Endpoint::Idempotent, &order.account, key).next()
        {
            let cost_micros = first.cost_micros;
            return Ok(Published { id: first.id.clone(), repeated: true, cost_micros });
        }
        let post = Post {
            seq: self.ever() + 1,
            id: format!("p_{}", letters(10)),
            account: order.account.clone(),
            endpoint: order.endpoint,
            key: order.key.clone(),
            text: order.draft.text.clone(),
            link: order.draft.link.clone(),
            created_at: order.draft.created_at,
            at: now(),
            cost_micros: self.price.of(&order.draft),
        };
        self.write(&Line::Post(&post))?;
        let (id, cost_micros) = (post.id.clone(), post.cost_micros);
        self.keep_post(post);
        Ok(Published { id, repeated: false, cost_micros })
    }

    fn keep_post(&mut self, post: Post) {
        let seq = post.seq;
        if let Some(member) = self.members.iter_mut().find(|member| member.handle == post.account) {
            member.posts += 1;
        }
        self.ids.insert(post.id.clone(), seq);
        if let Some(key) = searchable(&post) {
            self.keys.entry(key).or_default().push(seq);
        }
        self.posts.push_back(post);
        while self.posts.len() > POSTS {
            self.forget_oldest();
        }
        self.count.send_replace(seq);
    }

    fn forget_oldest(&mut self) {
        let Some(post) = self.posts.pop_front() else { return };
        self.ids.remove(&post.id);
        if let Some(key) = searchable(&post)
            && let Some(seqs) = self.keys.get_mut(&key)
        {
            seqs.retain(|seq| *seq != post.seq);
            if seqs.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// The kept posts, oldest first.
    pub(crate) fn posts(&self) -> impl DoubleEndedIterator<Item = &Post> + Clone {
        self.posts.iter()
    }

    pub(crate) fn post(&self, id: &str) -> Option<&Post> {
        self.post_at(*self.ids.get(id)?)
    }

    /// An account's posts under a key, oldest first.
    pub(crate) fn posts_with_key(
        &self,
        endpoint: Endpoint,
        account: &str,
        key: &str,
    ) -> impl Iterator<Item = &Post> {
        let seqs = self.keys.get(&(endpoint, account.to_owned(), key.to_owned()));
        seqs.into_iter().flatten().filter_map(|seq| self.post_at(*seq))
    }

    fn post_at(&self, seq: u64) -> Option<&Post> {
        let place = seq.checked_sub(self.posts.front()?.seq)?;
        self.posts.get(usize::try_from(place).ok()?)
    }

    /// Posts ever.
    pub(crate) fn ever(&self) -> u64 {
        *self.count.borrow()
    }

    pub(crate) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::of(self.posts.iter(), self.ever())
    }

    // -- faults

    /// Sets a fault; an account is given by its handle or id and must exist,
    /// or a typing error would wait for hits that never come.
    pub(crate) fn set_fault(&mut self, mut wanted: SetFault) -> Result<Fault, Invalid> {
        if let Some(given) = &wanted.account {
            let known = self.members.iter().find(|member| member.handle == *given || member.id == *given);
            let Some(known) = known else {
                return Err(Invalid::new(
                    "account",
                    format!("there is no account {given:?}; create it first"),
                ));
            };
            wanted.account = Some(known.handle.clone());
        }
        self.faults.set(wanted)
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.append(line).map_err(|error| {
            tracing::error!(%error, "the preview network cannot write its data file");
            let message = format!("the data file cannot be written: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", message)
        })
    }
}

/// The key that a client can use or look for; a blind post has none.
fn searchable(post: &Post) -> Option<(Endpoint, String, String)> {
    let key = post.key.clone().filter(|_| post.endpoint != Endpoint::Blind)?;
    Some((post.endpoint, post.account.clone(), key))
}

fn member(handle: &str, display_name: &str, token: String) -> Member {
    Member {
        id: format!("a_{}", letters(10)),
        handle: handle.to_owned(),
        display_name: display_name.to_owned(),
        token,
        since: now(),
        posts: 0,
    }
}

/// Now, to the millisecond: more digits only make a ledger hard to read.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Random letters and digits without the ones that look alike: five bits each.
fn letters(count: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = rand::rng();
    (0..count).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
