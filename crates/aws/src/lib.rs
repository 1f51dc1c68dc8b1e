//! The ports of Poste on AWS, one file a table or part, and what the functions share: configuration ([`Parts`]) and
//! event loops ([`gateway`], [`queue`]). All calls to AWS are made here.

mod callback;
mod connections;
mod devices;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gateway;
mod heads;
mod item;
mod links;
mod log;
mod marks;
mod members;
pub mod metrics;
mod parts;
mod presence;
pub mod queue;
mod quotas;
mod sns;
mod trouble;
mod uploads;
pub mod wake_queue;

pub use callback::GatewayCallback;
pub use connections::ConnectionsTable;
pub use devices::DevicesTable;
pub use files::{S3Attachments, S3Files};
pub use heads::HeadsTable;
pub use links::Links;
pub use log::LogTable;
pub use marks::MarksTable;
pub use members::MembersTable;
pub use parts::{MissingVariable, Parts, SystemClock, start_log, variable};
pub use presence::PresenceTable;
pub use queue::DeliveryQueue;
pub use quotas::QuotasTable;
pub use sns::SnsPusher;
pub use uploads::UploadsTable;
pub use wake_queue::WakeQueue;
