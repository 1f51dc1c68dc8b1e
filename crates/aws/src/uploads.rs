//! The table `media`: uploads that were begun. They are forgotten after some days; what is kept for longer is at the
//! store.

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use poste_domain::{
    FileId,
    ports::{Result, Upload, Uploads},
};
use poste_protocol::{Digest, MediaFile};

use crate::{
    item::{Fields, Item, number, text},
    trouble::{lost_condition, trouble},
};

const DAY_S: u64 = 24 * 3600;

/// Uploads in DynamoDB.
pub struct UploadsTable {
    client: Client,
    table: String,
    kept_s: u64,
}

impl UploadsTable {
    /// On this table. Uploads are remembered for so many days.
    pub fn new(client: Client, table: String, kept_days: u64) -> Self {
        Self { client, table, kept_s: kept_days.saturating_mul(DAY_S) }
    }
}

fn key(id: &FileId) -> AttributeValue {
    text(format!("{}/{}/{}", id.conversation, id.user, id.media))
}

#[async_trait]
impl Uploads for UploadsTable {
    async fn upload(&self, id: &FileId) -> Result<Option<Upload>> {
        let get = self.client.get_item().table_name(&self.table).key("media", key(id)).consistent_read(true);
        let found = get.send().await.map_err(|error| trouble("uploads.get", &error))?;
        found.item.as_ref().map(to_upload).transpose()
    }

    async fn note(&self, id: &FileId, before: Option<&Upload>, upload: &Upload) -> Result<bool> {
        let MediaFile { size, sha256, kind } = &upload.file;
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("media", key(id))
            .item("size", number(*size))
            .item("sha256", text(sha256.to_string()))
            .item("kind", text(kind))
            .item("begun_at", number(upload.begun_at))
            .item("expires_at", number(upload.begun_at / 1_000 + self.kept_s));
        if let Some(name) = &upload.name {
            put = put.item("upload", text(name));
        }
        put = match before {
            None => put.condition_expression("attribute_not_exists(media)"),
            Some(Upload { name: Some(name), .. }) => {
                put.condition_expression("upload = :before").expression_attribute_values(":before", text(name))
            }
            Some(_) => put.condition_expression("attribute_not_exists(upload)"),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            // Perhaps by this very call, whose first answer was lost.
            Err(error) if lost_condition(&error) => Ok(self.upload(id).await?.as_ref() == Some(upload)),
            Err(error) => Err(trouble("uploads.note", &error)),
        }
    }

    async fn forget(&self, id: &FileId) -> Result<()> {
        let delete = self.client.delete_item().table_name(&self.table).key("media", key(id));
        delete.send().await.map(drop).map_err(|error| trouble("uploads.forget", &error))
    }
}

pub(crate) fn to_upload(item: &Item) -> Result<Upload> {
    let fields = Fields::of("uploads.get", item);
    let sha256: Digest = fields.parsed("sha256")?;
    let file = MediaFile { size: fields.number("size")?, sha256, kind: fields.text("kind")?.to_owned() };
    let name = fields.maybe("upload").map(|_| fields.text("upload")).transpose()?.map(str::to_owned);
    Ok(Upload { file, name, begun_at: fields.number("begun_at")? })
}
