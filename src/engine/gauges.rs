//! Gauges that one scheduler measures for the whole deployment.

use crate::engine::Engine;
use crate::error::EngineError;

/// Measures queues, sessions, dead letters and the pool.
pub(crate) async fn measure(engine: &Engine) -> Result<(), EngineError> {
    let agents = engine.fleet().reading().await?.agent_types();
    for depth in engine.queue().depths(&agents).await? {
        let agent = depth.agent.to_string();
        metrics::gauge!("galley_queue_ready", "agent" => agent.clone()).set(depth.ready as f64);
        metrics::gauge!("galley_queue_in_flight", "agent" => agent.clone()).set(depth.in_flight as f64);
        metrics::gauge!("galley_queue_paused", "agent" => agent).set(f64::from(u8::from(depth.paused)));
    }
    let sessions = engine.store().unswept_sessions().await?;
    let open = sessions.iter().filter(|session| session.closed_at.is_none()).count();
    metrics::gauge!("galley_sessions_open").set(open as f64);
    metrics::gauge!("galley_dead_letters_open").set(engine.store().count_open_letters().await? as f64);
    metrics::gauge!("galley_timers_overdue_ms")
        .set(engine.store().next_timer_ms().await?.filter(|ms| *ms < 0).map_or(0.0, |ms| -ms as f64));
    let (size, idle) = engine.store().pool_size();
    metrics::gauge!("galley_pool_connections").set(f64::from(size));
    metrics::gauge!("galley_pool_idle").set(idle as f64);
    Ok(())
}
