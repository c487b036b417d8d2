//! Listening: one connection per stream, reconnected for ever, with a ping so
//! that a half-open connection is noticed. It never fails and never blocks the
//! connection: what a slow consumer cannot take is replaced by one `Resync`.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use galley_core::ids::AgentType;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::dispatch::Wake;
use crate::wire;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(5);
/// How many wake-ups may wait for the consumer.
const BACKLOG: usize = 1_024;

pub(super) struct Listener {
    pub(super) client: redis::Client,
    /// Channels of agents' wake-ups.
    pub(super) work: HashMap<String, AgentType>,
    /// The channel of cancellations.
    pub(super) cancelled: String,
    /// The longest wait for an answer.
    pub(super) patience: Duration,
}

enum End {
    ConsumerGone,
    ConnectionLost,
}

impl Listener {
    /// Listens in a task of its own until the stream is dropped.
    pub(super) fn stream(self) -> BoxStream<'static, Wake> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(self.run(sender));
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|wake| (wake, receiver)) })
            .boxed()
    }

    async fn run(self, out: mpsc::Sender<Wake>) {
        let mut delay = FIRST_DELAY;
        loop {
            match timeout(self.patience, self.subscribe()).await {
                Ok(Ok((sink, messages))) => {
                    delay = FIRST_DELAY;
                    if let End::ConsumerGone = self.forward(sink, messages, &out).await {
                        return;
                    }
                    tracing::warn!("the wake-up connection was lost; connecting again");
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot listen for wake-ups"),
                Err(_) => tracing::warn!("cannot listen for wake-ups: no answer"),
            }
            tokio::select! {
                () = out.closed() => return,
                () = sleep(delay) => delay = (delay * 2).min(LAST_DELAY),
            }
        }
    }

    async fn subscribe(&self) -> redis::RedisResult<(PubSubSink, PubSubStream)> {
        let (mut sink, messages) = self.client.get_async_pubsub().await?.split();
        let mut channels: Vec<&str> = self.work.keys().map(String::as_str).collect();
        channels.push(&self.cancelled);
        sink.subscribe(&channels).await?;
        Ok((sink, messages))
    }

    async fn forward(
        &self,
        mut sink: PubSubSink,
        mut messages: PubSubStream,
        out: &mpsc::Sender<Wake>,
    ) -> End {
        let mut pulse = interval(PING_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // True whenever the consumer may have missed something.
        let mut missed = true;
        loop {
            tokio::select! {
                biased;
                room = out.reserve(), if missed => match room {
                    Ok(room) => {
                        room.send(Wake::Resync);
                        missed = false;
                    }
                    Err(_) => return End::ConsumerGone,
                },
                message = messages.next() => {
                    let Some(message) = message else { return End::ConnectionLost };
                    for wake in self.read(&message) {
                        missed |= out.try_send(wake).is_err();
                    }
                }
                () = out.closed() => return End::ConsumerGone,
                _ = pulse.tick() => {
                    let pong = timeout(self.patience, sink.ping::<redis::Value>()).await;
                    if !matches!(pong, Ok(Ok(_))) {
                        return End::ConnectionLost;
                    }
                }
            }
        }
    }

    fn read(&self, message: &redis::Msg) -> Vec<Wake> {
        let channel = message.get_channel_name();
        if channel == self.cancelled {
            return wire::cancelled(message.get_payload_bytes()).into_iter().map(Wake::Cancelled).collect();
        }
        self.work.get(channel).map(|agent| Wake::Work(agent.clone())).into_iter().collect()
    }
}
