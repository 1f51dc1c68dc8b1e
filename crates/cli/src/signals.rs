//! Signals that end a command that would go on for ever.

/// Returns when the process is asked to end: by Ctrl-C, `SIGTERM`, or a terminal that is gone.
#[cfg(unix)]
pub(crate) async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // Not to be listened to: then it does what the system does.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Returns when the process is asked to end.
#[cfg(not(unix))]
pub(crate) async fn ended() {
    let _ = tokio::signal::ctrl_c().await;
}
