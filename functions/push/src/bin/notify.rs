//! From the push queue to the platforms' notification services.

use poste_aws::{Parts, wake_queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    wake_queue::serve(parts.wake_queue()?, parts.waking()?).await
}
