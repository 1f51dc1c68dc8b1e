//! Configuration: clients with timeouts, and the ports on the tables and queues that the environment names.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use poste_domain::{
    MEASURED, Retention,
    append::{Append, Settings},
    catch_up::CatchUp,
    fanout::Fanout,
    marks::Marking,
    media::{self, Media},
    ports::Clock,
    presence::Presences,
    rates::{self, Rates},
    read::Read,
    receipts::Receipts,
    registration::Registry,
    roll::Roll,
    session::Session,
    wake::{self, Alarms, Waking},
};
use poste_protocol::Platform;
use tracing_subscriber::{
    filter::{LevelFilter, Targets, filter_fn},
    prelude::*,
};

use crate::{
    callback::GatewayCallback,
    connections::ConnectionsTable,
    devices::DevicesTable,
    files::{S3Attachments, S3Files},
    heads::HeadsTable,
    links::Links,
    log::LogTable,
    marks::MarksTable,
    members::MembersTable,
    metrics::Meter,
    presence::PresenceTable,
    queue::DeliveryQueue,
    quotas::QuotasTable,
    sns::SnsPusher,
    uploads::UploadsTable,
    wake_queue::WakeQueue,
};

/// One attempt at a call: a hundred times what a healthy one takes.
const ATTEMPT: Duration = Duration::from_secs(1);

/// A call with all its attempts. The longest usual way through a function, an envelope that an earlier attempt has left
/// unwritten in an epoch that is over, makes about ten calls one after the other; they all may take this long within the
/// functions' 28 s, which is within the gateway's 29 s.
const OPERATION: Duration = Duration::from_millis(2_800);

/// One attempt at a call to the object store, and all of them: of the calls of one request two at most take long.
const STORE_ATTEMPT: Duration = Duration::from_secs(5);
const STORE_OPERATION: Duration = Duration::from_secs(10);

/// Connecting.
const CONNECT: Duration = Duration::from_secs(1);

/// Attempts at a call.
const ATTEMPTS: u32 = 3;

/// A variable that the environment lacks, or that cannot be read.
#[derive(Debug)]
pub struct MissingVariable(&'static str);

impl std::fmt::Display for MissingVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the environment variable {} is not set, or not as it should be", self.0)
    }
}

impl std::error::Error for MissingVariable {}

/// A variable of the environment.
///
/// # Errors
/// When it is not set or empty.
pub fn variable(name: &'static str) -> Result<String, MissingVariable> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(MissingVariable(name))
}

/// A number of days from the environment, in milliseconds.
fn days(name: &'static str) -> Result<u64, MissingVariable> {
    let days: u64 = variable(name)?.parse().map_err(|_| MissingVariable(name))?;
    Ok(days.saturating_mul(24 * 3600 * 1000))
}

/// A whole number from the environment.
fn whole(name: &'static str) -> Result<u64, MissingVariable> {
    variable(name)?.parse().map_err(|_| MissingVariable(name))
}

/// How long messages are kept.
fn retention() -> Result<Retention, MissingVariable> {
    days("RETENTION_DAYS").map(Retention::of)
}

/// Members of a group up to which marks are relayed to all.
fn marks_relayed() -> Result<u64, MissingVariable> {
    variable("MARKS_RELAYED")?.parse().map_err(|_| MissingVariable("MARKS_RELAYED"))
}

/// The system's clock.
pub struct SystemClock;

#[async_trait::async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// Log lines as JSON, as the level in `RUST_LOG` says (default: info), and [metrics](crate::metrics). What is finer than
/// info is not compiled into what is deployed.
pub fn start_log() {
    // By target and level. What filters by fields, too, brings regular expressions along: half a megabyte.
    let filter = std::env::var("RUST_LOG").ok().and_then(|wish| wish.parse().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let filter = filter.with_target(MEASURED, LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).without_time();
    let measured = filter_fn(|event| event.is_event() && event.fields().field("metric").is_some());
    let log = tracing_subscriber::registry().with(lines.with_filter(filter)).with(Meter.with_filter(measured));
    // A second call changes nothing.
    let _ = log.try_init();
}

/// What a function is made of, as its environment says.
pub struct Parts {
    config: SdkConfig,
    clock: Arc<dyn Clock>,
    /// One client for all tables, and one for all queues: what uses them shares connections.
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
}

impl Parts {
    /// Starts the log and reads region and credentials, which a function finds in its environment. Nothing else is
    /// looked for: what could be, in files and at other addresses, would be a tenth of each function.
    pub fn load() -> Self {
        start_log();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(OPERATION)
            .build();
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            // Answers are small, and an attempt has its time.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_region(variable("AWS_REGION").ok().map(Region::new));
        // Only of an emulator.
        config.set_endpoint_url(variable("AWS_ENDPOINT_URL").ok());
        let (dynamodb, sqs) = (OnceLock::new(), OnceLock::new());
        Self { config: config.build(), clock: Arc::new(SystemClock), dynamodb, sqs }
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb.get_or_init(|| aws_sdk_dynamodb::Client::new(&self.config)).clone()
    }

    fn sqs(&self) -> aws_sdk_sqs::Client {
        self.sqs.get_or_init(|| aws_sdk_sqs::Client::new(&self.config)).clone()
    }

    fn heads(&self) -> Result<Arc<HeadsTable>, MissingVariable> {
        Ok(Arc::new(HeadsTable::new(self.dynamodb(), variable("TABLE_HEADS")?, variable("TABLE_LANES")?)))
    }

    fn log(&self) -> Result<Arc<LogTable>, MissingVariable> {
        Ok(Arc::new(LogTable::new(self.dynamodb(), variable("TABLE_LOG")?)))
    }

    fn members(&self) -> Result<Arc<MembersTable>, MissingVariable> {
        let (members, conversations) = (variable("TABLE_MEMBERS")?, variable("TABLE_CONVERSATIONS")?);
        Ok(Arc::new(MembersTable::new(self.dynamodb(), members, conversations)))
    }

    fn marks(&self) -> Result<Arc<MarksTable>, MissingVariable> {
        Ok(Arc::new(MarksTable::new(self.dynamodb(), variable("TABLE_MARKS")?)))
    }

    fn connections(&self) -> Result<Arc<ConnectionsTable>, MissingVariable> {
        Ok(Arc::new(ConnectionsTable::new(self.dynamodb(), variable("TABLE_CONNECTIONS")?)))
    }

    fn presence(&self) -> Result<Arc<PresenceTable>, MissingVariable> {
        Ok(Arc::new(PresenceTable::new(self.dynamodb(), variable("TABLE_PRESENCE")?)))
    }

    fn callback(&self) -> Result<Arc<GatewayCallback>, MissingVariable> {
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(&self.config)
            .endpoint_url(variable("CALLBACK_ENDPOINT")?)
            .build();
        Ok(Arc::new(GatewayCallback::new(aws_sdk_apigatewaymanagement::Client::from_conf(config))))
    }

    /// The delivery queue.
    ///
    /// # Errors
    /// When the environment does not name it.
    pub fn delivery_queue(&self) -> Result<DeliveryQueue, MissingVariable> {
        Ok(DeliveryQueue::new(self.sqs(), variable("QUEUE_DELIVERY")?))
    }

    /// The system's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// What `send` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn append(&self) -> Result<Append, MissingVariable> {
        Ok(Append::new(
            self.heads()?,
            self.log()?,
            self.members()?,
            self.attachments()?,
            Arc::new(self.delivery_queue()?),
            self.clock(),
            Settings { acceptance_ms: days("ACCEPTANCE_DAYS")?, retention: retention()? },
        ))
    }

    fn quotas(&self) -> Result<Arc<QuotasTable>, MissingVariable> {
        Ok(Arc::new(QuotasTable::new(self.dynamodb(), variable("TABLE_QUOTAS")?)))
    }

    /// How much devices and users may ask of this function in a minute.
    ///
    /// # Errors
    /// When the environment does not say.
    pub fn rates(&self, what: &'static str) -> Result<Rates, MissingVariable> {
        let settings = rates::Settings { device: whole("DEVICE_RATE")?, user: whole("USER_RATE")? };
        Ok(Rates::new(self.quotas()?, what, settings))
    }

    /// The object store. Calls take longer there than elsewhere: it puts files together, and copies nothing of ours.
    fn s3(&self) -> aws_sdk_s3::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(STORE_ATTEMPT)
            .operation_timeout(STORE_OPERATION)
            .build();
        let config = aws_sdk_s3::config::Builder::from(&self.config)
            .timeout_config(timeouts)
            // Only on AWS has each bucket a name of its own in the net.
            .force_path_style(self.config.endpoint_url().is_some())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    fn attachments(&self) -> Result<Arc<S3Attachments>, MissingVariable> {
        Ok(Arc::new(S3Attachments::new(self.s3(), variable("BUCKET_MEDIA")?)))
    }

    fn files(&self) -> Result<Arc<S3Files>, MissingVariable> {
        let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
        let links = Links::new(variable("MEDIA_ADDRESS")?, variable("AWS_REGION")?, credentials);
        Ok(Arc::new(S3Files::new(self.s3(), variable("BUCKET_MEDIA")?, links)))
    }

    /// What `media` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn media(&self) -> Result<Media, MissingVariable> {
        const MIB: u64 = 1024 * 1024;
        let unsent_days = whole("MEDIA_UNSENT_DAYS")?;
        let (kept, kept_for) = (whole("RETENTION_DAYS")?, whole("MEDIA_RETENTION_DAYS")?);
        // No file goes before its message, which may be sent as long as the file waits for it.
        let outlive = if kept == 0 { kept_for == 0 } else { kept_for == 0 || kept_for >= kept + unsent_days };
        if !outlive {
            return Err(MissingVariable("MEDIA_RETENTION_DAYS"));
        }
        let uploads = UploadsTable::new(self.dynamodb(), variable("TABLE_MEDIA")?, unsent_days);
        let settings = media::Settings {
            most_bytes: whole("MEDIA_MOST_MIB")?.saturating_mul(MIB),
            daily_bytes: whole("MEDIA_DAILY_MIB")?.saturating_mul(MIB),
            kinds: variable("MEDIA_KINDS")?.split(',').map(|kind| kind.trim().to_owned()).collect(),
        };
        let roll = Roll::new(self.heads()?, self.log()?, self.members()?, self.clock(), retention()?);
        Ok(Media::new(
            Arc::new(uploads),
            self.quotas()?,
            self.files()?,
            Arc::new(self.read()?),
            roll,
            self.clock(),
            settings,
        ))
    }

    /// What `sync` reads with.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn read(&self) -> Result<Read, MissingVariable> {
        Ok(Read::new(self.heads()?, self.log()?, self.members()?, self.marks()?, self.clock(), retention()?))
    }

    /// What `sync` catches devices up with.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn catch_up(&self, read: Arc<Read>) -> Result<CatchUp, MissingVariable> {
        let spread_ms = whole("RECONNECT_SPREAD_SECONDS")?.saturating_mul(1_000);
        Ok(CatchUp::new(read, self.callback()?, self.clock()).spreading(spread_ms))
    }

    /// What `sync` answers with who asks for marks.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn receipts(&self) -> Result<Receipts, MissingVariable> {
        Ok(Receipts::new(self.heads()?, self.log()?, self.members()?, self.marks()?, self.clock(), retention()?))
    }

    /// What `sync` and `send` mark with.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn marking(&self) -> Result<Marking, MissingVariable> {
        let (heads, log, members) = (self.heads()?, self.log()?, self.members()?);
        let roll = Roll::new(heads, log, members.clone(), self.clock(), retention()?);
        let marking =
            Marking::new(self.heads()?, self.marks()?, members, Arc::new(self.delivery_queue()?), roll, self.clock());
        Ok(marking.relaying_in_groups_of(marks_relayed()?))
    }

    fn devices(&self) -> Result<Arc<DevicesTable>, MissingVariable> {
        let (devices, tokens) = (variable("TABLE_DEVICES")?, variable("TABLE_PUSH_TOKENS")?);
        Ok(Arc::new(DevicesTable::new(self.dynamodb(), devices, tokens)))
    }

    /// The way to the platforms whose applications the environment names. Each call is one attempt: the push queue
    /// tries again, so that a provider in trouble gets no more than the rate.
    fn pusher(&self) -> Arc<SnsPusher> {
        let names =
            [(Platform::Apns, "PUSH_APNS"), (Platform::ApnsSandbox, "PUSH_APNS_SANDBOX"), (Platform::Fcm, "PUSH_FCM")];
        let applications: BTreeMap<Platform, String> =
            names.into_iter().filter_map(|(platform, name)| Some((platform, variable(name).ok()?))).collect();
        let mut config = aws_sdk_sns::config::Builder::from(&self.config).retry_config(RetryConfig::disabled());
        // Where something else stands in for SNS. Empty on AWS.
        if let Ok(endpoint) = variable("PUSH_ENDPOINT") {
            config = config.endpoint_url(endpoint);
        }
        Arc::new(SnsPusher::new(aws_sdk_sns::Client::from_conf(config.build()), applications))
    }

    /// The push queue.
    ///
    /// # Errors
    /// When the environment does not name it.
    pub fn wake_queue(&self) -> Result<WakeQueue, MissingVariable> {
        Ok(WakeQueue::new(self.sqs(), variable("QUEUE_PUSH")?))
    }

    /// What registers devices for waking.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn registry(&self) -> Result<Registry, MissingVariable> {
        Ok(Registry::new(self.devices()?, self.pusher(), self.members()?, self.clock()))
    }

    /// What `notify` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn waking(&self) -> Result<Waking, MissingVariable> {
        let settings = wake::Settings {
            interval_ms: whole("PUSH_INTERVAL_SECONDS")?.saturating_mul(1_000),
            ttl_ms: whole("PUSH_TTL_SECONDS")?.saturating_mul(1_000),
            per_second: whole("PUSH_RATE")?,
        };
        Ok(Waking::new(self.devices()?, self.members()?, self.marks()?, self.pusher(), self.clock(), settings))
    }

    /// Wake-ups, if the environment names a queue for them. It does not where nobody can be woken.
    fn alarms(&self) -> Result<Option<Alarms>, MissingVariable> {
        let Ok(queue) = self.wake_queue() else { return Ok(None) };
        let grace_ms = whole("PUSH_GRACE_SECONDS")?.saturating_mul(1_000);
        Ok(Some(Alarms::new(Arc::new(queue), grace_ms, variable("PUSH_CONTENT")? == "true")))
    }

    /// What `connect` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn session(&self) -> Result<Session, MissingVariable> {
        Ok(Session::new(self.connections()?, self.callback()?, self.clock()))
    }

    /// What `presence` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn presences(&self) -> Result<Presences, MissingVariable> {
        let (presence, members) = (self.presence()?, self.members()?);
        Ok(Presences::new(presence, members, self.connections()?, self.callback()?, self.clock()))
    }

    /// What `deliver` is made of.
    ///
    /// # Errors
    /// When the environment does not name a part.
    pub fn fanout(&self) -> Result<Fanout, MissingVariable> {
        let queue = Arc::new(self.delivery_queue()?);
        let fanout = Fanout::new(self.members()?, self.connections()?, self.callback()?, queue, self.clock());
        Ok(fanout.with(self.alarms()?))
    }
}
