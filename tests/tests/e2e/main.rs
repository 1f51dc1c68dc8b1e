//! End to end: through sockets, on the stack that `POSTE_STACK` names. `cargo local test` brings one up and sets it.
//!
//! Each test names the requirements that it proves. One binary, because linking takes longer than running.

mod catch_up;
mod changes;
mod connections;
mod contract;
mod dash;
mod delivery_queue;
mod expiry;
mod frames;
mod groups;
mod history;
mod holes;
mod latency;
mod library;
mod list;
mod logs;
mod many_writers;
mod marks;
mod matrix;
mod media;
mod order;
mod permissions;
mod presence;
mod push;
mod python;
mod rates;
mod receipts;
mod recorded;
mod repeats;
mod retention;
mod retries;
mod rollback;
mod send;
mod strangers;
mod thousand;
mod tokens;
