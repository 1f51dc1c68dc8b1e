//! The ports of the rules on the deployed parts, for the suites of `poste_sim::contract` and for rules that run here.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents, SharedCredentialsProvider,
    interceptors::{BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextMut},
    retry::RetryConfig,
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{orchestrator::OrchestratorError, result::ConnectorError},
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use poste_aws::{
    ConnectionsTable, DeliveryQueue, DevicesTable, GatewayCallback, HeadsTable, Links, LogTable, MarksTable,
    MembersTable, PresenceTable, QuotasTable, S3Files, SnsPusher, UploadsTable, WakeQueue,
};
use poste_domain::ports::{Parcel, Wake};
use poste_protocol::{Delivery, Digest, Link, Platform};
use poste_sim::contract::{FarEnd, Line, Ports};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{Admin, DEADLINE, Deployment, Device, Store, checksum};

/// Messages that one look into the queue takes.
const BATCH: i32 = 10;

/// The wait before the first repeat of a call whose answer was lost; tests need not be polite.
const BACKOFF: Duration = Duration::from_millis(10);

impl Deployment {
    /// The ports on the deployed parts, with every permission. The queue is one of their own, from which no function
    /// takes.
    ///
    /// # Panics
    /// When the queue cannot be made.
    pub async fn ports(&self) -> Ports {
        let admin = self.admin();
        self.ports_on(admin.dynamodb.clone(), &admin).await
    }

    /// The same on an SDK that loses the first answer to every write, after its effect, and makes the call again.
    ///
    /// # Panics
    /// When the queue cannot be made.
    pub async fn ports_with_lost_answers(&self) -> Ports {
        let admin = self.admin();
        let retries = RetryConfig::standard().with_initial_backoff(BACKOFF);
        let config = admin.dynamodb.config().to_builder().retry_config(retries).interceptor(LostAnswers).build();
        Ports { lose_answers: true, ..self.ports_on(aws_sdk_dynamodb::Client::from_conf(config), &admin).await }
    }

    async fn ports_on(&self, dynamodb: aws_sdk_dynamodb::Client, admin: &Admin) -> Ports {
        let client = || dynamodb.clone();
        let tables = admin.stack.tables.clone();
        let own_queue = async || {
            let name = format!("contract-{}", Uuid::now_v7());
            let queue = admin.sqs.create_queue().queue_name(name).send().await.expect("a queue of its own");
            queue.queue_url.expect("a queue has an address")
        };
        let (queue, wakes) = (own_queue().await, own_queue().await);
        let sns = aws_sdk_sns::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(admin.stack.region.clone()))
            .endpoint_url(&admin.stack.push_provider)
            .credentials_provider(admin.credentials.clone())
            .build();
        let application = "arn:aws:sns:us-east-1:000000000000:app/GCM/contract".to_owned();
        let gateway = aws_sdk_apigatewaymanagement::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(admin.stack.region.clone()))
            .endpoint_url(&admin.stack.callback_endpoint)
            .credentials_provider(admin.credentials.clone())
            .build();
        let members = || MembersTable::new(client(), tables.members.clone(), tables.conversations.clone());
        let links = Links::new(
            format!("{}/{}", admin.stack.endpoint, admin.stack.bucket),
            admin.stack.region.clone(),
            SharedCredentialsProvider::new(admin.credentials.clone()),
        );
        let outside = Outside {
            deployment: self.clone(),
            sqs: admin.sqs.clone(),
            queue: queue.clone(),
            taken: Mutex::default(),
            wakes: wakes.clone(),
            woken: Mutex::default(),
            store: Store::new(),
        };
        Ports {
            heads: Arc::new(HeadsTable::new(client(), tables.heads.clone(), tables.lanes.clone())),
            lanes_in_head: HeadsTable::LANES_IN_HEAD,
            lose_answers: false,
            log: Arc::new(LogTable::new(client(), tables.log.clone())),
            members: Arc::new(members()),
            mutes: Arc::new(members()),
            devices: Arc::new(DevicesTable::new(client(), tables.devices.clone(), tables.push_tokens.clone())),
            wakes: Arc::new(WakeQueue::new(admin.sqs.clone(), wakes)),
            pusher: Arc::new(SnsPusher::new(
                aws_sdk_sns::Client::from_conf(sns),
                BTreeMap::from([(Platform::Fcm, application)]),
            )),
            marks: Arc::new(MarksTable::new(client(), tables.marks.clone())),
            connections: Arc::new(ConnectionsTable::new(client(), tables.connections.clone())),
            presence: Arc::new(PresenceTable::new(client(), tables.presence.clone())),
            courier: Arc::new(DeliveryQueue::new(admin.sqs.clone(), queue)),
            callback: Arc::new(GatewayCallback::new(aws_sdk_apigatewaymanagement::Client::from_conf(gateway))),
            uploads: Arc::new(UploadsTable::new(client(), tables.media.clone(), 7)),
            quotas: Arc::new(QuotasTable::new(client(), tables.quotas.clone())),
            files: Arc::new(S3Files::new(admin.s3(), admin.stack.bucket.clone(), links)),
            far_end: Arc::new(outside),
        }
    }
}

/// The first answer to every write is lost on its way to the SDK.
#[derive(Debug)]
struct LostAnswers;

impl Intercept for LostAnswers {
    fn name(&self) -> &'static str {
        "LostAnswers"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        operation: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = |name| context.request().headers().get(name).unwrap_or_default();
        let writes = ["PutItem", "UpdateItem"].iter().any(|write| header("x-amz-target").ends_with(write));
        let first = header("amz-sdk-request").starts_with("attempt=1;");
        operation.interceptor_state().store_put(AnswerLost(writes && first));
        Ok(())
    }

    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        operation: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if operation.load::<AnswerLost>().is_some_and(|lost| lost.0)
            && let Some(answer) = context.output_or_error_mut()
        {
            *answer = Err(OrchestratorError::connector(ConnectorError::io("the answer was lost".into())));
        }
        Ok(())
    }
}

/// Whether the answer to the present attempt is lost.
#[derive(Debug)]
struct AnswerLost(bool);

impl Storable for AnswerLost {
    type Storer = StoreReplace<Self>;
}

/// The other end: a queue that is looked into, and devices on sockets.
struct Outside {
    deployment: Deployment,
    sqs: aws_sdk_sqs::Client,
    queue: String,
    taken: Mutex<BTreeMap<String, Parcel>>,
    wakes: String,
    woken: Mutex<BTreeMap<String, Wake>>,
    store: Store,
}

impl Outside {
    /// Takes messages out of a queue until there are as many as this.
    async fn take<T>(&self, queue: &str, taken: &Mutex<BTreeMap<String, T>>, at_least: usize) -> Vec<T>
    where
        T: Clone + serde::de::DeserializeOwned,
    {
        let mut taken = taken.lock().await;
        let deadline = Instant::now() + DEADLINE;
        while taken.len() < at_least {
            assert!(Instant::now() < deadline, "{} of {at_least} messages came out of the queue", taken.len());
            let look = self.sqs.receive_message().queue_url(queue).max_number_of_messages(BATCH).send().await;
            for message in look.expect("the queue answers").messages.unwrap_or_default() {
                let (id, body) = (message.message_id.expect("an id"), message.body.expect("a body"));
                taken.insert(id, serde_json::from_str(&body).expect("what was put in"));
            }
        }
        taken.values().cloned().collect()
    }
}

#[async_trait]
impl FarEnd for Outside {
    async fn parcels(&self, at_least: usize) -> Vec<Parcel> {
        self.take(&self.queue, &self.taken, at_least).await
    }

    async fn wakes(&self, at_least: usize) -> Vec<Wake> {
        self.take(&self.wakes, &self.woken, at_least).await
    }

    async fn put(&self, link: &Link, bytes: &[u8]) -> u16 {
        self.store.put(link, bytes.to_vec()).await
    }

    async fn get(&self, link: &Link) -> Option<(u64, Digest)> {
        let bytes = self.store.get(link, None).await.ok()?;
        Some((bytes.len() as u64, checksum(&bytes)))
    }

    async fn connect(&self) -> Box<dyn Line> {
        let user = self.deployment.user("line");
        let device = self.deployment.device(&user, "phone").await;
        let connections = self.deployment.admin().connections(&user).await;
        Box::new(Connected { device, id: connections["phone"].id.clone() })
    }
}

struct Connected {
    device: Device,
    id: String,
}

#[async_trait]
impl Line for Connected {
    fn id(&self) -> &str {
        &self.id
    }

    async fn hears(&mut self, delivery: &Delivery) {
        let [item] = delivery.items.as_slice() else { panic!("one item: {delivery:?}") };
        self.device
            .hear("a delivery", |device| (device.heard_marks(&item.conversation) == item.marks).then_some(()))
            .await;
    }

    async fn hang_up(&mut self) {
        self.device.drop_connection();
    }

    async fn ends(&mut self) {
        self.device.is_closed().await;
    }
}
