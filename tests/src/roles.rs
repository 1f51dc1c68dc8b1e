//! The functions' roles as they are deployed: what each permits, and the hand that takes a permission away.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{DEADLINE, Deployment};

/// Role, action, resource, and whether it was allowed.
type Told = Vec<(String, String, String, bool)>;

/// One action on one resource, which a role permits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The role, as deployed.
    pub role: String,
    /// The policy in it.
    policy: String,
    /// The action.
    pub action: String,
    /// The resource, with `*` for anything.
    pub resource: String,
}

/// A request of a role that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    role: String,
    action: String,
    resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
}

impl Permission {
    /// Whether it is what a request was judged by.
    pub fn is_asked_by(&self, judged: &Judged) -> bool {
        self.role == judged.role && self.action == judged.action && matches(&self.resource, &judged.resource)
    }
}

/// Whether a text is what a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))),
    }
}

/// All roles of the stack.
pub struct Roles {
    deployment: Deployment,
    http: reqwest::Client,
    /// Everything that is permitted, as the template has it.
    pub permissions: Vec<Permission>,
    policies: BTreeMap<(String, String), String>,
}

impl Roles {
    /// Reads them; nothing of an emulator that checks no permissions, or does not tell what it has judged.
    ///
    /// # Panics
    /// When IAM does not answer.
    pub async fn of(deployment: &Deployment) -> Option<Self> {
        let stack = deployment.stack();
        if !stack.enforces || deployment.told::<Told>("permissions").await.is_none() {
            return None;
        }
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("an HTTP client");
        let mut roles =
            Self { deployment: deployment.clone(), http, permissions: Vec::new(), policies: BTreeMap::new() };
        let listed = roles.iam(&[("Action", "ListRoles")]).await;
        let names = between(&listed, "<RoleName>", "</RoleName>");
        for role in names.into_iter().filter(|name| name.starts_with(&stack.stack_name)) {
            let policies = roles.iam(&[("Action", "ListRolePolicies"), ("RoleName", &role)]).await;
            for policy in between(&policies, "<member>", "</member>") {
                let asked = [("Action", "GetRolePolicy"), ("RoleName", &*role), ("PolicyName", &*policy)];
                let document = between(&roles.iam(&asked).await, "<PolicyDocument>", "</PolicyDocument>").remove(0);
                let document = decoded(&document);
                roles.permissions.extend(permissions(&role, &policy, &document));
                roles.policies.insert((role.clone(), policy), document);
            }
        }
        Some(roles)
    }

    /// Takes one permission away.
    ///
    /// # Panics
    /// When it stays.
    pub async fn remove(&self, permission: &Permission) {
        let Permission { role, policy, .. } = permission;
        let left = self.permissions.iter().filter(|other| *other != permission);
        let left = left.filter(|other| (&other.role, &other.policy) == (role, policy));
        let statements: Vec<Value> = left
            .map(|other| json!({ "Effect": "Allow", "Action": other.action, "Resource": other.resource }))
            .collect();
        let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        self.put(role, policy, &document).await;
    }

    /// Gives a role back what it had.
    ///
    /// # Panics
    /// When it does not take it.
    pub async fn restore(&self, permission: &Permission) {
        let Permission { role, policy, .. } = permission;
        self.put(role, policy, &self.policies[&(role.clone(), policy.clone())]).await;
    }

    async fn put(&self, role: &str, policy: &str, document: &str) {
        let put =
            [("Action", "PutRolePolicy"), ("RoleName", role), ("PolicyName", policy), ("PolicyDocument", document)];
        self.iam(&put).await;
    }

    /// What was judged since this was asked last.
    ///
    /// # Panics
    /// When the emulator does not tell.
    pub async fn judged(&self) -> Vec<Judged> {
        let told: Told = self.deployment.told("permissions").await.expect("it tells what it has judged");
        let judged = |(role, action, resource, allowed)| Judged { role, action, resource, allowed };
        told.into_iter().map(judged).collect()
    }

    /// A call of IAM, as the account itself, whose signature the emulator does not check.
    async fn iam(&self, form: &[(&str, &str)]) -> String {
        let scope = format!("Credential=test/20260101/{}/iam/aws4_request", self.deployment.stack().region);
        let body = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&");
        let answer = self
            .http
            .post(&self.deployment.stack().endpoint)
            .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("{body}&Version=2010-05-08"))
            .send()
            .await
            .expect("an answer of IAM");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert!(status.is_success(), "IAM refuses {form:?}: {text}");
        text
    }
}

/// Every action on every resource that a policy permits.
fn permissions(role: &str, policy: &str, document: &str) -> Vec<Permission> {
    let document: Value = serde_json::from_str(document).expect("a policy is JSON");
    let several = |value: &Value| match value {
        Value::Array(values) => values.iter().map(|value| value.as_str().expect("text").to_owned()).collect(),
        value => vec![value.as_str().expect("text").to_owned()],
    };
    let mut permissions = Vec::new();
    for statement in document["Statement"].as_array().expect("statements") {
        assert_eq!(statement["Effect"], "Allow", "the template's roles permit, and nothing else");
        for action in several(&statement["Action"]) {
            for resource in several(&statement["Resource"]) {
                let (role, policy, action) = (role.to_owned(), policy.to_owned(), action.clone());
                permissions.push(Permission { role, policy, action, resource });
            }
        }
    }
    permissions
}

/// Every text between two marks.
fn between(text: &str, before: &str, after: &str) -> Vec<String> {
    let found = text.split(before).skip(1).filter_map(|rest| rest.split_once(after));
    found.map(|(found, _)| found.to_owned()).collect()
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
            let digits = std::str::from_utf8(&digits).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("a policy is text")
}
