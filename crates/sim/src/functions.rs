//! The deployed functions without AWS: the real rules on the ports in memory, and the routes to them.

use std::{sync::Arc, time::Duration};

use poste_domain::{
    append::{Append, Settings},
    catch_up::CatchUp,
    fanout::Fanout,
    marks::Marking,
    media::{self, Media},
    presence::Presences,
    rates::{self, Rates},
    read::Read,
    receipts::Receipts,
    registration::Registry,
    roll::Roll,
    routes::{self, Caller},
    session::Session,
    wake::{self, Alarms, Waking},
};
use poste_protocol::FromServer;

use crate::memory::World;

/// Members that one parcel is for: so few that groups are delivered to in parts.
const PART: usize = 2;

/// The rules, warm.
pub(crate) struct Functions {
    append: Append,
    rates: Rates,
    read: Arc<Read>,
    catch_up: CatchUp,
    marking: Marking,
    receipts: Receipts,
    media: Media,
    presences: Presences,
    pub(crate) session: Session,
    pub(crate) registry: Registry,
    pub(crate) fanout: Fanout,
    pub(crate) waking: Waking,
}

impl Functions {
    /// `grace` is what who seems to be connected is given to mark.
    pub(crate) fn new(world: &Arc<World>, settings: &Settings, grace: Duration) -> Self {
        let w = || world.clone();
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let read = Arc::new(Read::new(w(), w(), w(), w(), w(), settings.retention));
        Self {
            rates: Rates::new(w(), "send", rates::Settings::default()),
            append: Append::new(w(), w(), w(), w(), w(), w(), settings.clone()),
            media: Media::new(
                w(),
                w(),
                w(),
                read.clone(),
                Roll::new(w(), w(), w(), w(), settings.retention),
                w(),
                media::Settings::default(),
            ),
            catch_up: CatchUp::new(read.clone(), w(), w()),
            read,
            marking: Marking::new(w(), w(), w(), w(), Roll::new(w(), w(), w(), w(), settings.retention), w()),
            receipts: Receipts::new(w(), w(), w(), w(), w(), settings.retention),
            presences: Presences::new(w(), w(), w(), w(), w()),
            session: Session::new(w(), w(), w()),
            registry: Registry::new(w(), w(), w(), w()),
            fanout: Fanout::new(w(), w(), w(), w(), w()).in_parts_of(PART).with(Some(Alarms::new(
                w(),
                grace_ms,
                false,
            ))),
            waking: Waking::new(w(), w(), w(), w(), w(), wake::Settings::default()),
        }
    }

    /// A frame in, a frame out, as the gateway routes it. Some are not answered.
    pub(crate) async fn answer(&self, caller: &Caller, now_ms: u64, text: &str) -> Option<FromServer> {
        let frame: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        Some(match frame.get("action").and_then(|action| action.as_str()) {
            Some("send") => routes::send(&self.append, &self.marking, &self.rates, caller, now_ms, text).await,
            Some("fetch") => routes::fetch(&self.read, caller, now_ms, text).await,
            Some("sync") => routes::sync(&self.catch_up, caller, now_ms, text).await,
            Some("list") => routes::list(&self.catch_up, caller, now_ms, text).await,
            Some("members") => routes::members(&self.read, caller, now_ms, text).await,
            Some("marks") => routes::marks(&self.receipts, caller, now_ms, text).await,
            Some("receipts") => routes::receipts(&self.marking, caller, now_ms, text).await,
            Some("mark") => routes::mark(&self.marking, caller, now_ms, text).await,
            Some("media") => routes::media(&self.media, caller, now_ms, text).await,
            Some("hello") => routes::hello(&self.session, &self.registry, caller, now_ms, text).await,
            Some("push") => routes::push(&self.registry, caller, now_ms, text).await,
            Some("mute") => routes::mute(&self.registry, caller, now_ms, text).await,
            Some("watch") => routes::watch(&self.presences, caller, now_ms, text).await,
            Some("away") => {
                routes::away(&self.presences, caller).await;
                return None;
            }
            Some("typing") => {
                routes::typing(&self.presences, caller, now_ms, text).await;
                return None;
            }
            _ => routes::unknown(text),
        })
    }
}
