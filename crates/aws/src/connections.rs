//! The table `connections`: one item a user, one `d:DEVICE` in it for each device's connection, so that a hundred
//! users cost one `BatchGetItem`.

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnValue},
};
use poste_domain::{
    Trouble,
    ports::{Connection, Connections, Registration, Result},
};
use poste_protocol::{Author, DeviceId, UserId};

use crate::{
    item::{Fields, Item, batch_get, number, text},
    trouble::{lost_condition, trouble},
};

/// What the names of the per-device attributes begin with.
const DEVICE: &str = "d:";

/// How long after a user's last registration the item is of no use: the gateway's two hours, and an hour for clocks.
const EXPIRY_MS: u64 = 3 * 3600 * 1000;

/// Connections in DynamoDB.
pub struct ConnectionsTable {
    client: Client,
    table: String,
}

impl ConnectionsTable {
    /// On this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

#[async_trait]
impl Connections for ConnectionsTable {
    async fn register(&self, author: &Author, connection: &Connection) -> Result<Registration> {
        let record = Item::from([
            ("id".to_owned(), text(&connection.id)),
            ("since".to_owned(), number(connection.since_ms)),
            ("until".to_owned(), number(connection.until_ms)),
        ]);
        let attribute = format!("{DEVICE}{}", author.device);
        let registered = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("user", text(author.user.as_str()))
            // A user who never comes back costs nothing for ever: the store removes the item. Not before the longest
            // connection has ended that any device of the user may have by now.
            .update_expression("SET #device = :connection, expires_at = :expires_at")
            .condition_expression("attribute_not_exists(#device) OR #device.since <= :since")
            .expression_attribute_names("#device", &attribute)
            .expression_attribute_values(":since", number(connection.since_ms))
            .expression_attribute_values(":connection", AttributeValue::M(record))
            .expression_attribute_values(":expires_at", number((connection.since_ms + EXPIRY_MS) / 1000))
            .return_values(ReturnValue::UpdatedOld)
            .send()
            .await;
        match registered {
            Ok(done) => {
                let before = done.attributes.as_ref().and_then(|item| item.get(&attribute));
                // One that cannot be read is nobody's to be told.
                let before = before.and_then(|value| to_connection(author.device.as_str(), value).ok());
                let replaced = before.map(|(_, older)| older).filter(|older| older.id != connection.id);
                Ok(Registration::Registered { replaced })
            }
            Err(error) if lost_condition(&error) => Ok(Registration::Superseded),
            Err(error) => Err(trouble("connections.register", &error)),
        }
    }

    async fn remove(&self, author: &Author, connection_id: &str) -> Result<()> {
        let removed = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("user", text(author.user.as_str()))
            .update_expression("REMOVE #device")
            .condition_expression("#device.id = :id")
            .expression_attribute_names("#device", format!("{DEVICE}{}", author.device))
            .expression_attribute_values(":id", text(connection_id))
            .send()
            .await;
        match removed {
            Err(error) if !lost_condition(&error) => Err(trouble("connections.remove", &error)),
            _ => Ok(()),
        }
    }

    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, DeviceId, Connection)>> {
        let keys = users.iter().map(|user| Item::from([("user".to_owned(), text(user.as_str()))])).collect();
        let items = batch_get("connections.get", &self.client, &self.table, keys).await?;
        let mut connections = Vec::new();
        for item in &items {
            let user: UserId = Fields::of("connections.get", item).parsed("user")?;
            for (name, value) in item {
                let Some(device) = name.strip_prefix(DEVICE) else { continue };
                match to_connection(device, value) {
                    Ok((device, connection)) => connections.push((user.clone(), device, connection)),
                    // A device that is not found fetches; a batch that fails for it would keep everybody waiting.
                    Err(trouble) => tracing::error!(%trouble, "passed over a connection"),
                }
            }
        }
        Ok(connections)
    }
}

pub(crate) fn to_connection(device: &str, value: &AttributeValue) -> Result<(DeviceId, Connection)> {
    let device = DeviceId::new(device).map_err(|error| Trouble::broken("connections.get", error))?;
    let record = value.as_m().map_err(|_| Trouble::broken("connections.get", "not a map"))?;
    let fields = Fields::of("connections.get", record);
    let connection = Connection {
        id: fields.text("id")?.to_owned(),
        since_ms: fields.number("since")?,
        until_ms: fields.number("until")?,
    };
    Ok((device, connection))
}
