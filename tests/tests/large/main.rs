//! Many devices, on the deployed stack. One test at a time, and none beside them: they count what things cost, and leave
//! others little room.

mod crowd;
mod storm;

use poste_tests::Deployment;
use tokio::sync::{Mutex, MutexGuard};

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The stack, which is at rest: the one before has left connections to end, by the hundred.
async fn alone() -> (MutexGuard<'static, ()>, Deployment) {
    let (alone, deployment) = (ALONE.lock().await, Deployment::here());
    deployment.settles().await;
    (alone, deployment)
}
