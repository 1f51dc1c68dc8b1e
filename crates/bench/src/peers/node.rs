//! The plain serverless chat in Node.js, in its simplest form (`peers/chat.js`), on the same emulator. It stores nothing,
//! orders nothing and acknowledges nothing, so it has less to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::{Device, End, Server, Used, number_of};
use crate::account::body;
use crate::local::Local;
use crate::report::Report;

/// What the function needs, from the npm registry.
const PACKAGES: [&str; 2] = ["@aws-sdk/client-dynamodb@3", "@aws-sdk/client-apigatewaymanagementapi@3"];
/// Its code.
const CODE: &str = include_str!("../../peers/chat.js");
/// How long the deployment may take.
const DEPLOYED: Duration = Duration::from_mins(1);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// Measures it.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let modules = install(folder)?;
    let url = deploy(local, &modules).await.context("deploying it")?;
    let mut pair = [Browser::new(&url), Browser::new(&url)];
    for browser in &mut pair {
        browser.connect().await?;
    }
    let what = "plain Node.js chat";
    let mut server = Functions { local: local.clone() };
    super::rates("node", what, &mut pair, &|| server.used(), report).await?;
    super::kills("node", what, &mut server, &mut pair, report).await
}

/// A stack's functions, all of them. The parts that they call are not killed: a deployment's are AWS's.
pub(crate) struct Functions {
    pub(crate) local: Local,
}

impl Server for Functions {
    fn used(&self) -> anyhow::Result<Used> {
        let processes = self.local.processes()?;
        let resident = processes.resident.iter().max().copied().unwrap_or_default();
        Ok(Used { cpu: processes.children, parts: Some(processes.own), resident })
    }

    async fn kill(&mut self) -> anyhow::Result<bool> {
        ensure!(self.local.kill_functions()? > 0, "there was no process of a function to kill");
        // The emulator starts others when there is something to do, and has held the connections, as AWS does.
        Ok(false)
    }
}

/// Somebody who has the chat open.
struct Browser {
    url: String,
    socket: Option<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>>,
    said: BTreeSet<usize>,
}

impl Browser {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), socket: None, said: BTreeSet::new() }
    }
}

impl End for Browser {
    async fn say(&mut self, n: usize) -> anyhow::Result<()> {
        let socket = self.socket.as_mut().context("there is no connection")?;
        socket.send(Message::text(body(n as u64))).await?;
        self.said.insert(n);
        Ok(())
    }

    async fn hear(&mut self, patience: Duration) -> anyhow::Result<Option<(Instant, usize)>> {
        let deadline = Instant::now() + patience;
        while let Some(socket) = &mut self.socket {
            let Ok(next) = tokio::time::timeout_at(deadline.into(), socket.next()).await else { break };
            let message = next.context("the connection is lost")??;
            // What is no message is an error's text.
            if let Some(n) = message.to_text().ok().and_then(number_of) {
                return Ok(Some((Instant::now(), n)));
            }
        }
        Ok(None)
    }
}

impl Device for Browser {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.socket = Some(connect_async_with_config(&self.url, None, true).await?.0);
        Ok(())
    }

    fn cut(&mut self) {
        self.socket = None;
    }

    /// All: nothing ever tells it that one is not.
    async fn acknowledged(&mut self) -> anyhow::Result<BTreeSet<usize>> {
        Ok(self.said.clone())
    }
}

/// Installs what the function needs. Gives where it is.
fn install(folder: &Path) -> anyhow::Result<PathBuf> {
    let place = folder.join("node");
    let modules = place.join("node_modules");
    std::fs::create_dir_all(&place)?;
    if !modules.join("@aws-sdk/client-apigatewaymanagementapi").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&place).args(PACKAGES);
        let status = npm.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let status = status.context("npm does not run (on Debian: `apt-get install nodejs npm`)")?;
        ensure!(status.success(), "npm could not install {}", PACKAGES.join(", "));
    }
    Ok(modules.canonicalize()?)
}
/// Deploys it to the stack's emulator. Gives where clients connect.
async fn deploy(local: &Local, modules: &Path) -> anyhow::Result<String> {
    let template = template(&local.stack().callback_endpoint.replace(&local.stack().api_id, "API"), modules);
    local
        .form(
            "cloudformation",
            &[
                ("Action", "CreateStack"),
                ("StackName", "plain-chat"),
                ("TemplateBody", &template),
                ("Capabilities.member.1", "CAPABILITY_IAM"),
            ],
        )
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
        tokio::time::sleep(LOOK).await;
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
