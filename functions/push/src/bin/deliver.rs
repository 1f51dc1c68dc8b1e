//! From the delivery queue to live connections.

use poste_aws::{Parts, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    queue::serve(parts.delivery_queue()?, parts.fanout()?).await
}
