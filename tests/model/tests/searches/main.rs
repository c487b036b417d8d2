//! Every model is searched; what was seen, and how every shortcut fails, is held
//! against the page that tells it.

mod dispatch;
mod dispatch_shortcuts;
mod money;
mod page;
mod publishing;
mod publishing_shortcuts;
