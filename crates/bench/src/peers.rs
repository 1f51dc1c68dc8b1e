//! What users would otherwise pick, on the same emulator and the same machine: the plain serverless chat in Node.js, in its
//! simplest form (`peers/chat.js`). It stores nothing, orders nothing and acknowledges nothing, so it has less to do; what
//! that costs its users is counted, too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::account::body;
use crate::delivery::count;
use crate::local::Local;
use crate::report::{Report, percentile};

/// What the figures are of.
const SUBJECT: &str = "peers";
/// What the function needs, from the npm registry.
const PACKAGES: [&str; 2] = ["@aws-sdk/client-dynamodb@3", "@aws-sdk/client-apigatewaymanagementapi@3"];
/// Its code.
const CODE: &str = include_str!("../peers/chat.js");
/// Messages at a steady rate, as for Poste.
const MESSAGES: usize = 300;
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the receiver is killed, and how many messages are sent meanwhile each time.
const KILLS: usize = 20;
const WHILE_KILLED: usize = 25;
/// Nothing comes any more after this.
const QUIET: Duration = Duration::from_secs(2);
/// How long the deployment may take.
const DEPLOYED: Duration = Duration::from_mins(1);

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Measures it, or says why not.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let modules = match install(folder) {
        Ok(modules) => modules,
        Err(error) => {
            report.note(format!("the plain Node.js chat was not measured: {error:#}"));
            return Ok(());
        }
    };
    let url = deploy(local, &modules).await.context("deploying the plain chat")?;
    let (mut one, mut other) = (connect(&url).await?, connect(&url).await?);
    say(&mut one, 0).await?;
    hear(&mut other, QUIET * 5).await?.context("the first message does not come")?;
    let before = local.processes()?;
    let began = Instant::now() + INTERVAL;
    let sending = async {
        for n in 0..MESSAGES {
            tokio::time::sleep_until((began + INTERVAL * u32::try_from(n)?).into()).await;
            say(&mut one, n).await?;
        }
        anyhow::Ok(())
    };
    let hearing = async {
        let mut times = Vec::new();
        while times.len() < MESSAGES {
            let Some(n) = hear(&mut other, QUIET * 5).await? else { break };
            times.push(began.elapsed().saturating_sub(INTERVAL * u32::try_from(n)?));
        }
        anyhow::Ok(times)
    };
    let ((), mut times) = futures::future::try_join(sending, hearing).await?;
    let after = local.processes()?;
    ensure!(!times.is_empty(), "nothing came");
    times.sort_unstable();
    for percent in [50, 99] {
        report.key(format!("peer_node_deliver_p{percent}_ms"), percentile(&times, percent).as_secs_f64() * 1_000.0);
    }
    let thousands = count(MESSAGES) / 1_000.0;
    report.key("peer_node_cpu_s_per_1000", after.children.saturating_sub(before.children).as_secs_f64() / thousands);
    let largest = after.resident.iter().max().copied().unwrap_or_default();
    report.key("peer_node_rss_mb", crate::delivery::megabytes(largest));
    report.add(SUBJECT, "plain Node.js chat, 10/s: send to delivered (nothing is stored)", times);
    let lost = killed(&url, &mut one).await?;
    report.key("peer_node_lost_per_1000_at_kills", count(lost) / count(KILLS * WHILE_KILLED) * 1_000.0);
    report.note(format!(
        "plain Node.js chat: {lost} of {} messages were lost when the receiver was killed {KILLS} times and came back; it \
         has no users, no order, no acknowledgement, no history and no retry",
        KILLS * WHILE_KILLED
    ));
    report.note("ejabberd was not measured: there is no driver for it here");
    Ok(())
}

/// The receiver's process is killed in the midst of messages and comes back. Gives how many it never hears of.
async fn killed(url: &str, sender: &mut Socket) -> anyhow::Result<usize> {
    let mut heard = std::collections::BTreeSet::new();
    for kill in 0..KILLS {
        let mut receiver = connect(url).await?;
        for n in 0..WHILE_KILLED {
            say(sender, kill * WHILE_KILLED + n).await?;
            tokio::time::sleep(INTERVAL / 5).await;
            if n == WHILE_KILLED / 2 {
                heard.extend(hear(&mut receiver, INTERVAL).await?);
                // Without a closing handshake, as a process ends that is killed.
                drop(receiver);
                receiver = connect(url).await?;
            }
            while let Some(n) = hear(&mut receiver, Duration::from_millis(1)).await? {
                heard.insert(n);
            }
        }
        while let Some(n) = hear(&mut receiver, QUIET / 4).await? {
            heard.insert(n);
        }
    }
    Ok((KILLS * WHILE_KILLED).saturating_sub(heard.len()))
}

/// Installs what the function needs. Gives where it is.
fn install(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let place = folder.join("node");
    let modules = place.join("node_modules");
    std::fs::create_dir_all(&place)?;
    if !modules.join("@aws-sdk/client-apigatewaymanagementapi").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&place).args(PACKAGES);
        let status = npm.stdin(Stdio::null()).stdout(Stdio::null()).status().context("npm does not run")?;
        ensure!(status.success(), "npm could not install {}", PACKAGES.join(", "));
    }
    Ok(modules)
}

/// Deploys it to the stack's emulator. Gives where clients connect.
async fn deploy(local: &Local, modules: &Path) -> anyhow::Result<String> {
    let template = template(&local.stack().callback_endpoint.replace(&local.stack().api_id, "API"), modules);
    local
        .form("cloudformation", &[("Action", "CreateStack"), ("StackName", "plain-chat"), ("TemplateBody", &template)])
        .await?;
    let began = Instant::now();
    loop {
        let told = local.form("cloudformation", &[("Action", "DescribeStacks"), ("StackName", "plain-chat")]).await?;
        if told.contains("CREATE_COMPLETE") {
            let (_, rest) = told.split_once("<OutputValue>").context("no output")?;
            let (api, _) = rest.split_once('<').context("no output")?;
            return Ok(local.stack().socket_url.replace(&local.stack().api_id, api));
        }
        if told.contains("FAILED") || told.contains("ROLLBACK") || began.elapsed() > DEPLOYED {
            bail!("it is not deployed: {told}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn template(callback: &str, modules: &Path) -> String {
    let (before, after) = callback.split_once("API").unwrap_or((callback, ""));
    let integration = json!({ "Type": "AWS::ApiGatewayV2::Integration", "Properties": {
        "ApiId": { "Ref": "Api" }, "IntegrationType": "AWS_PROXY",
        "IntegrationUri": { "Fn::Sub":
            "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Chat.Arn}/invocations" } } });
    let route = |key: &str| {
        json!({ "Type": "AWS::ApiGatewayV2::Route", "Properties": {
            "ApiId": { "Ref": "Api" }, "RouteKey": key, "Target": { "Fn::Sub": "integrations/${Integration}" } } })
    };
    json!({
        "Resources": {
            "Table": { "Type": "AWS::DynamoDB::Table", "Properties": {
                "TableName": "plain-chat-connections", "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }] } },
            "Role": { "Type": "AWS::IAM::Role", "Properties": {
                "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
                    "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" }] },
                "Policies": [{ "PolicyName": "all", "PolicyDocument": { "Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow", "Action": ["dynamodb:*", "execute-api:*", "logs:*"], "Resource": "*" }] } }] } },
            "Chat": { "Type": "AWS::Lambda::Function", "Properties": {
                "FunctionName": "plain-chat", "Runtime": "nodejs20.x", "Handler": "index.handler", "MemorySize": 256,
                "Role": { "Fn::GetAtt": ["Role", "Arn"] }, "Code": { "ZipFile": CODE },
                "Environment": { "Variables": {
                    "TABLE": "plain-chat-connections",
                    "NODE_PATH": modules,
                    "CALLBACK_ENDPOINT": { "Fn::Join": ["", [before, { "Ref": "Api" }, after]] } } } } },
            "Api": { "Type": "AWS::ApiGatewayV2::Api", "Properties": {
                "Name": "plain-chat", "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": "$request.body.action" } },
            "Integration": integration,
            "Connect": route("$connect"),
            "Disconnect": route("$disconnect"),
            "Default": route("$default"),
            "Stage": { "Type": "AWS::ApiGatewayV2::Stage", "Properties": {
                "ApiId": { "Ref": "Api" }, "StageName": "prod", "AutoDeploy": true } },
        },
        "Outputs": { "Api": { "Value": { "Ref": "Api" } } },
    })
    .to_string()
}

async fn connect(url: &str) -> anyhow::Result<Socket> {
    Ok(connect_async_with_config(url, None, true).await?.0)
}

async fn say(socket: &mut Socket, n: usize) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(format!("{n} {}", body(n as u64)))).await?)
}

/// The number of the next message, if one comes in time.
async fn hear(socket: &mut Socket, patience: Duration) -> anyhow::Result<Option<usize>> {
    let Ok(message) = tokio::time::timeout(patience, socket.next()).await else { return Ok(None) };
    let message = message.context("the connection is lost")??;
    Ok(message.to_text()?.split(' ').next().and_then(|word| word.parse().ok()))
}
