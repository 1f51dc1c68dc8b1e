//! What a connecting device shows, and whether it is good.

mod admission;
mod keys;
mod token;

pub use admission::{Admission, SUBPROTOCOL, Showing};
pub use keys::{Keys, KeysError};
pub use token::{Claims, Rejected, Verifier};
