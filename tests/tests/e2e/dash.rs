//! The dashboard of the local stack.

use std::{process::Stdio, time::Duration};

use poste_local::Dash;
use poste_tests::{DEADLINE, Deployment, eventually};
use serde_json::Value;
use tokio::process::Command;

/// Browsers that can be told to print a page as it is after its scripts have run.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// So that a browser does nothing but this, also for root.
const QUIETLY: [&str; 7] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Q1: what is sent shows on the dashboard, and a browser draws it.
#[tokio::test]
async fn what_is_sent_shows_on_the_dashboard() {
    let deployment = Deployment::here();
    let dash = Dash::listen(deployment.stack().clone(), 0).await.expect("a port");
    let url = dash.url().expect("an address");
    let serving = tokio::spawn(dash.serve());
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let figures = format!("{url}/figures");
    let drawn = async || {
        phone.tells(&bob, "hi").await;
        let charts: Vec<Value> = reqwest::get(&figures).await.ok()?.json().await.ok()?;
        let line = |chart: &str, line: &str| {
            let chart = charts.iter().find(|one| one["title"] == chart)?;
            let line = chart["series"].as_array()?.iter().find(|one| one["label"] == line)?;
            line["points"].as_array()?.iter().rev().find_map(Value::as_f64)
        };
        let stored = line("Messages stored, repeats and refusals", "stored")?;
        // Of queues the emulator tells, if it is the project's own.
        line("Oldest in the queues, s", "delivery")?;
        (stored > 0.0).then_some(charts.len())
    };
    let charts = eventually("a message is on the dashboard", DEADLINE, drawn).await;

    match shown(&url).await {
        Some(page) => {
            assert_eq!(page.matches("<section>").count(), charts, "a chart each");
            assert!(page.contains("<polyline points=\""), "with lines");
            assert!(page.contains("From stored to posted, ms") && page.contains("only on AWS"));
            assert!(page.contains("the last 10 minutes, 5 s a point"), "and what it is about");
        }
        None => eprintln!("no browser here ({}): the page was not drawn", BROWSERS.join(", ")),
    }
    serving.abort();
}

/// The page after its scripts have run, if there is a browser.
async fn shown(url: &str) -> Option<String> {
    let profile = tempfile::tempdir().expect("a folder");
    for browser in BROWSERS {
        let mut command = Command::new(browser);
        command
            .args(QUIETLY)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(["--virtual-time-budget=3000", "--dump-dom", url])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let Ok(child) = command.stdout(Stdio::piped()).spawn() else { continue };
        let done = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await;
        let done = done.expect("the browser ends in a minute").expect("it runs");
        return Some(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    None
}
